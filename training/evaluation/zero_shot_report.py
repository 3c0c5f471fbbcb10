"""Evaluate a trained model by zero-shot classification: accuracies and a JSON record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Metric
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.prompt_sets import Prompts
from openwit.training.evaluation.statistics.estimates import Estimate
from openwit.training.evaluation.zero_shot import (
    HeadsScorer,
    ObjectiveScorer,
    Progress,
    SeparateScorers,
    SetScorer,
    classify_sets,
)
from openwit.training.evaluation.zero_shot_result import Result, ZeroShotResult, check_metric, gain, summarise_set


@dataclass(frozen=True)
class Prompted:
    """The result of one set of templates.

    Attributes:
        prompts: the set.
        result: its metrics.
        gain: how much higher the accuracy of the first set is; None for the first itself.
    """

    prompts: Prompts
    result: Result
    gain: Estimate | None


def evaluate_zero_shot(
    model: LoadedModel,
    data: ClassificationSet,
    *,
    templates: tuple[str, ...],
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Result:
    """Classify a labelled set with a model and one set of templates; see `evaluate_prompts`."""
    (found,) = evaluate_prompts(model, data, [Prompts("", templates)], batch_size=batch_size, progress=progress)
    return found.result


def evaluate_prompts(
    model: LoadedModel,
    data: ClassificationSet,
    prompts: Sequence[Prompts],
    *,
    metric: Metric | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[Prompted]:
    """Classify a labelled set with a model, on the GPU if there is one, once for each set of templates.

    Args:
        model: of `load_model`.
        data: of `openwit.training.evaluation.classification_data.open_classification`.
        prompts: sets of templates, of `openwit.training.evaluation.prompts.read_prompts`; the first is the main one.
        metric: see `summarise_set`.
        batch_size: images or texts embedded at once.
        progress: receives (done, total).

    Raises:
        DataError: no image is readable, or the metric does not exist for the set.
    """
    check_metric(data, metric)
    device = pick_device("auto")
    autocast = make_autocast(device, model.precision)
    module = model.to(device).model
    with cpu_prepared(model.threads):
        scorer: SetScorer
        if model.embeds:
            embedder = Embedder(module, model.tokenizer, device=device, autocast=autocast, batch_size=batch_size)
            scorer = HeadsScorer(embedder, data.classes, [each.templates for each in prompts])
        else:
            scorer = SeparateScorers(
                [
                    ObjectiveScorer(
                        module,
                        model.objective,
                        model.tokenizer,
                        device=device,
                        autocast=autocast,
                        classes=data.classes,
                        templates=each.templates,
                    )
                    for each in prompts
                ]
            )
        answers = classify_sets(
            data,
            scorer,
            inputs=module.inputs,
            batch_size=batch_size,
            progress=progress,
            keep_scores=metric is not None and metric.of_scores,
        )
    return [
        Prompted(each, summarise_set(of_set, data, metric), gain(answers[0], of_set) if number else None)
        for number, (each, of_set) in enumerate(zip(prompts, answers, strict=True))
    ]


def zero_shot_record(
    model: LoadedModel, data: ClassificationSet, *, found: Sequence[Prompted], limit: int | None
) -> dict[str, Any]:
    """Return the result as JSON data, with every class and confusion, and other sets of templates beside it."""
    main, *others = found
    result = main.result
    several = not isinstance(result, ZeroShotResult)
    return {
        "data": data.name,
        "split": data.split,
        "limit": limit,
        **model.about,
        "prompts": main.prompts.name,
        "templates": main.prompts.templates,
        "scored_by": "cosine with the mean of the templates' embeddings" if model.embeds else model.objective_name,
        "intervals": "95%; shares: Wilson's score; mean per class: bootstrap within classes, 2000 resamples",
        "ties": "images of equal score enter a ranking together"
        if several
        else "a wrong class of equal score stands before the right one",
        **({"positive": data.classes[1]} if result.metric is Metric.ROC_AUC and not several else {}),
        "left_out": data.left_out,
        "notes": data.notes,
        **asdict(result),
        "compared": [
            {
                "prompts": each.prompts.name,
                "templates": each.prompts.templates,
                "metrics": each.result.metrics(),
                "headline": asdict(each.result.headline),
                "gain_of_the_first": None if each.gain is None else asdict(each.gain),
            }
            for each in others
        ],
    }


def ambiguous(data: ClassificationSet) -> list[str]:
    """Return a sentence if classes share a name, as no model can then distinguish them."""
    shared = sorted({name for name in data.classes if data.classes.count(name) > 1})
    if not shared:
        return []
    return [f"{len(shared)} names belong to several classes, whose images count as wrong: {', '.join(shared[:5])}"]
