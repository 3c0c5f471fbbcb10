"""Evaluate a trained model by zero-shot classification: accuracies and a JSON record."""

from dataclasses import asdict
from typing import Any

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.zero_shot import (
    HeadScorer,
    ObjectiveScorer,
    Progress,
    Scorer,
    ZeroShotResult,
    classify,
    summarise,
)


def evaluate_zero_shot(
    model: LoadedModel,
    data: ClassificationSet,
    *,
    templates: tuple[str, ...],
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ZeroShotResult:
    """Classify a labelled set with a model, on the GPU if there is one.

    Args:
        model: of `load_model`.
        data: of `openwit.training.evaluation.classification_data.open_classification`.
        templates: of `openwit.training.evaluation.prompts.read_prompts`.
        batch_size: images or texts embedded at once.
        progress: receives (done, total).

    Raises:
        DataError: no image is readable.
    """
    device = pick_device("auto")
    autocast = make_autocast(device, model.precision)
    module = model.to(device).model
    with cpu_prepared(model.threads):
        scorer: Scorer
        if model.embeds:
            embedder = Embedder(module, model.tokenizer, device=device, autocast=autocast, batch_size=batch_size)
            scorer = HeadScorer(embedder, data.classes, templates)
        else:
            scorer = ObjectiveScorer(
                module,
                model.objective,
                model.tokenizer,
                device=device,
                autocast=autocast,
                classes=data.classes,
                templates=templates,
            )
        answers = classify(data, scorer, inputs=module.inputs, batch_size=batch_size, progress=progress)
    return summarise(answers, data.classes)


def zero_shot_record(
    model: LoadedModel,
    data: ClassificationSet,
    *,
    result: ZeroShotResult,
    prompts: str,
    templates: tuple[str, ...],
    limit: int | None,
) -> dict[str, Any]:
    """Return the result as JSON data, with every class and confusion."""
    return {
        "data": data.name,
        "split": data.split,
        "limit": limit,
        **model.about,
        "prompts": prompts,
        "templates": templates,
        "scored_by": "cosine with the mean of the templates' embeddings" if model.embeds else model.objective_name,
        "intervals": "95%; shares: Wilson's score; mean per class: bootstrap within classes, 2000 resamples",
        "ties": "a wrong class of equal score stands before the right one",
        "left_out": data.left_out,
        **asdict(result),
    }


def ambiguous(data: ClassificationSet) -> list[str]:
    """Return a sentence if classes share a name, as no model can then distinguish them."""
    shared = sorted({name for name in data.classes if data.classes.count(name) > 1})
    if not shared:
        return []
    return [f"{len(shared)} names belong to several classes, whose images count as wrong: {', '.join(shared[:5])}"]
