"""Measure a model during training with evaluators: built-in ones by name, your own by dotted name."""

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.plugins import check_call, load_callable, load_object, one_line
from openwit.training.config import CustomEvaluatorSettings, EvaluatorSettings, RetrievalSettings, TrainConfig
from openwit.training.config.data import SOURCES
from openwit.training.config.duration import Duration, Position
from openwit.training.config.measurements import MEASUREMENTS
from openwit.training.data.sharded import Dataset, ShardedDataset
from openwit.training.data.sources import held_out_source
from openwit.training.evaluation.classification_data import open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.contact_sheet import draw_contact_sheet
from openwit.training.evaluation.embed import EmbeddedSplit
from openwit.training.evaluation.evaluator_context import EvalContext, Evaluation, Evaluator
from openwit.training.evaluation.measured_evaluator import Measured
from openwit.training.evaluation.prompts import read_prompts
from openwit.training.evaluation.retrieval import retrieval
from openwit.training.evaluation.zero_shot import HeadScorer, ObjectiveScorer, Scorer, classify
from openwit.training.evaluation.zero_shot_result import summarise_set

__all__ = ["EvalContext", "Evaluation", "Evaluator", "ScheduledEvaluator", "make_evaluators", "no_split_to_evaluate"]

logger = logging.getLogger(__name__)

MAX_CAPTIONS = 100_000
"""Captions that a captioning model may score in one evaluation: minutes on a GPU."""


class Retrieval:
    """Recall on the first images of a held-out split; each process embeds a part of it.

    Args:
        context: of the run.
        dataset: dataset folder; None: the training data's.
        split: held-out split.
        limit: number of images; None: all.

    Raises:
        RecipeError: the objective has no embeddings, or the split is the one trained on.
        DataError: there is no such split.
    """

    all_ranks = True

    def __init__(
        self, context: EvalContext, *, dataset: Path | None = None, split: str = "val", limit: int | None = 1000
    ) -> None:
        if not context.objective.embeds:
            raise RecipeError(f"objective {context.config.objective.name} has no embeddings for retrieval")
        self._context = context
        self._limit = limit
        self._held_out = _open_held_out(context.config, folder=dataset, split=split)

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Return recall at 1, 5 and 10 in both directions; `details` is a `RetrievalResult`."""
        embedder = self._context.embedder(model, shared=True)
        embedded = embedder.split(self._held_out, limit=self._limit, progress=self._context.progress)
        result = retrieval(embedded)
        directions = ("text_to_image", "image_to_text")
        to_image, to_text = (result.at(direction, "strict", 1) for direction in directions)
        metrics = {
            f"{direction}_recall_at_{k}": result.at(direction, "strict", k).value
            for direction in directions
            for k in (1, 5, 10)
        }
        return Evaluation(
            metrics,
            f"step {position.step}: recall@1 on {self._held_out.split} ({result.images} images)  "
            f"text to image {100 * to_image.value:.1f}%  image to text {100 * to_text.value:.1f}%  "
            f"(chance {100 * to_image.chance:.2f}%, {100 * to_text.chance:.2f}%)",
            result,
            self._pictures(embedded, position),
        )

    def _pictures(self, embedded: EmbeddedSplit, position: Position) -> dict[str, NDArray[np.uint8]]:
        """Return the contact sheet, for the process that writes TensorBoard's files."""
        group = self._context.group
        if not self._context.config.log.tensorboard or not (group is None or group.main):
            return {}
        try:
            with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
                path = Path(folder) / "sheet.png"
                title = f"Text to image on {self._held_out.name} / {self._held_out.split}"
                subtitle = f"step {position.step}"
                draw_contact_sheet(path, embedded, dataset=self._held_out, title=title, subtitle=subtitle)
                with Image.open(path) as sheet:
                    return {"contact_sheet": np.asarray(sheet.convert("RGB"))}
        except OSError as error:  # no reason to end a run
            logger.warning("no contact sheet for TensorBoard: %s", error)
            return {}


class ZeroShot:
    """Zero-shot classification: top-1, top-5 and mean per-class accuracy on labelled images.

    Args:
        context: of the run.
        data, split, classes: see `LabelledData`.
        prompts: see `openwit.training.evaluation.prompts.read_prompts`.
        limit: number of images, a random sample; None: all.

    Raises:
        DataError: the data or the prompts are missing or not readable.
        RecipeError: the objective would take too long.
    """

    all_ranks = True

    def __init__(
        self,
        context: EvalContext,
        *,
        data: Path,
        split: str | None = None,
        classes: Path | None = None,
        prompts: str = "paper",
        limit: int | None = 1000,
    ) -> None:
        self._context = context
        wanted = LabelledData(Path(data), split=split, classes=classes)
        self._templates = read_prompts(prompts, wanted.names)
        self._data = open_classification(wanted).limited(limit)
        captions = len(self._data) * len(self._data.classes) * len(self._templates)
        if context.config.objective.name == "captioning" and captions > MAX_CAPTIONS:
            most = MAX_CAPTIONS // (len(self._data.classes) * len(self._templates))
            remedy = f"set limit to {most} or less" if most else "choose fewer prompts"
            raise RecipeError(
                f"captioning scores every text of every class for every image, {captions:,} captions, and more than "
                f"{MAX_CAPTIONS:,} would delay training: {remedy}"
            )

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Return the accuracies; `details` is a `ZeroShotResult`, or a `SeveralResult` of several classes an image."""
        batch_size, progress = self._context.config.eval.batch_size, self._context.progress
        answers = classify(
            self._data,
            self._scorer(model),
            inputs=model.inputs,
            batch_size=batch_size,
            progress=progress,
            shares=self._context.shares,
        )
        result = summarise_set(answers, self._data)
        skipped = f", {len(result.unreadable)} unreadable" if result.unreadable else ""
        return Evaluation(
            result.metrics(),
            f"step {position.step}: zero-shot on {self._data.title} ({result.images} images{skipped})  "
            f"{result.sentence()}",
            result,
        )

    def _scorer(self, model: Any) -> Scorer:
        # Created for each evaluation, as the texts' embeddings change with the weights.
        context, classes = self._context, self._data.classes
        if context.objective.embeds:
            return HeadScorer(context.embedder(model, shared=True), classes, self._templates)
        return ObjectiveScorer(
            model,
            context.objective,
            context.tokenizer,
            device=context.device,
            autocast=context.autocast,
            classes=classes,
            templates=self._templates,
        )


@dataclass(frozen=True)
class ScheduledEvaluator:
    """An evaluator and its interval.

    Attributes:
        name: of the configuration.
        evaluator: the evaluator.
        every: interval; None: once, at the end.
        suffix: of its metrics, if another evaluator of the same name precedes it in the list.
    """

    name: str
    evaluator: Evaluator
    every: Duration | None
    suffix: str = ""

    @property
    def all_ranks(self) -> bool:
        """Whether all processes call it, or only the first."""
        return bool(getattr(self.evaluator, "all_ranks", False))

    def run(self, model: Any, position: Position) -> Evaluation:
        """Measure the model.

        Raises:
            RecipeError: an evaluator given by dotted name returned something else than an `Evaluation`.
        """
        found = self.evaluator(model, position)
        if not isinstance(found, Evaluation):
            raise RecipeError(f"evaluator {self.name!r} returned a {type(found).__name__}, not an Evaluation")
        return replace(found, metrics={f"{key}{self.suffix}": value for key, value in found.metrics.items()})


def no_split_to_evaluate(config: TrainConfig) -> str:
    """Return a sentence if the default of `eval.split` finds no split, because tars have none; else nothing.

    Retrieval is then omitted, as with `eval.split: null`.
    """
    settings = config.eval
    is_default = settings.split == type(settings).model_fields["split"].default
    if settings.evaluators is not None or _has_splits(config) or settings.dataset is not None or not is_default:
        return ""
    source = _source_key(config)
    have = "have" if source == "tars" else "has"
    return (
        f"eval.split is null, since data.{source} {have} no splits: nothing is held out to evaluate on (eval.dataset "
        "names a dataset with a held-out split)"
    )


def _source_key(config: TrainConfig) -> str:
    return next(name for name in SOURCES if getattr(config.data, name) is not None)


def _has_splits(config: TrainConfig) -> bool:
    return _source_key(config) in ("dataset", "datasets")


def make_evaluators(context: EvalContext) -> list[ScheduledEvaluator]:
    """Return the evaluators that the configuration names, in order, with their data opened.

    The short form of `eval` omits retrieval if the objective has no embeddings, or tars no splits.

    Raises:
        OpenWITError: an evaluator cannot be loaded or made; the message names its entry.
    """
    made: list[ScheduledEvaluator] = []
    settings = context.config.eval
    no_split = bool(no_split_to_evaluate(context.config))
    for number, each in enumerate(settings.requested()):
        is_short = settings.evaluators is None and isinstance(each, RetrievalSettings)
        if is_short and (no_split or not context.objective.embeds):
            continue
        if settings.evaluators is not None:
            key = f"eval.evaluators.{number} ({each.name})"
        else:
            key = "eval.split" if isinstance(each, RetrievalSettings) else "eval.zero_shot"
        before = sum(other.name == each.name for other in made)
        suffix = f"_{before + 1}" if before else ""
        made.append(ScheduledEvaluator(each.name, _make(each, context, key), each.every or settings.every, suffix))
    return made


def _make(settings: EvaluatorSettings, context: EvalContext, key: str) -> Evaluator:
    if not isinstance(settings, CustomEvaluatorSettings):
        try:
            return _built_in(settings, context)
        except OpenWITError as error:
            hint = "; or set eval.split: null to train without evaluation" if key == "eval.split" else ""
            raise type(error)(f"{key}: {error}{hint}") from error
    factory = load_callable(settings, key=key, positional=1)
    try:
        made: Evaluator = factory(context, **settings.settings)
    except OpenWITError as error:
        raise type(error)(f"{key}: {error}") from error
    except Exception as error:
        raise RecipeError(f"{key}: it cannot be made: {one_line(error)}") from error
    check_call(made, {}, name=settings.name, key=key, positional=2)
    return made


_COMMON = ("name", "every")


def _built_in(settings: Any, context: EvalContext) -> Evaluator:
    """Return the evaluator of a measurement of the registry."""
    code = MEASUREMENTS[settings.name].evaluator_code
    if code is None:
        return Measured(context, settings)
    keywords = {name: getattr(settings, name) for name in type(settings).model_fields if name not in _COMMON}
    made: Evaluator = load_object(code)(context, **keywords)
    return made


def _open_held_out(config: TrainConfig, *, folder: Path | None, split: str) -> Dataset:
    data = config.data
    trained: list[tuple[Path | str | None, str]] = [(share.dataset, share.split) for share in data.datasets or []]
    trained = trained or [(data.dataset, data.split)]
    if (folder or trained[0][0], split) in trained:
        raise RecipeError(f"{split!r} is the split that is trained on: name a held-out split")
    return held_out_source(data, split) if folder is None else ShardedDataset(Path(folder), split)
