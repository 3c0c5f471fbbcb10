"""Measure during training by any measurement of the registry, on all processes."""

from functools import partial
from typing import Any

from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Layer
from openwit.training.config.duration import Position
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import MEASUREMENTS
from openwit.training.evaluation.evaluator_context import EvalContext, Evaluation
from openwit.training.evaluation.features.running import RunningEncoder
from openwit.training.evaluation.measurements.context import MeasureContext, Measurement
from openwit.training.evaluation.measurements.registry import code_of

_SHOWN = 3
"""Numbers in the sentence."""


class Measured:
    """A measurement of the registry as an evaluator; the data are opened before training begins.

    Args:
        context: of the run.
        settings: an evaluator's of `openwit.training.config.measurements`: how it is measured, and where the data are.

    Raises:
        OpenWITError: the data are not there or cannot be measured.
    """

    all_ranks = True

    def __init__(self, context: EvalContext, settings: Any) -> None:
        self._context, self._settings, self._name = context, settings, str(settings.name)
        place = {key: getattr(settings, key) for key in DatasetSettings.model_fields if hasattr(settings, key)}
        self._data = DatasetSettings(**{**place, "name": self._name, "metric": None})
        self._code = code_of(self._name)
        if MEASUREMENTS[self._name].embeds and not context.objective.embeds:
            raise RecipeError(f"objective {context.config.objective.name} has no embeddings for retrieval")
        self._opened = self._code.open_data(self._data, settings, lambda _: None)

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Return the numbers, `NAME_metric`; `details` is a `Measurement`.

        Raises:
            OpenWITError: no image can be read, or the model has no such features; in all processes.
        """
        context = self._context
        running = partial(_encoder, model, context)
        view = LoadedModel(
            model,
            context.objective,
            context.tokenizer,  # type: ignore[arg-type]
            objective_name=context.config.objective.name,
            precision=context.config.precision,
        )
        within = MeasureContext(
            view,
            self._data,
            batch_size=context.config.eval.batch_size,
            progress=context.progress,
            running=running,
            shares=context.shares,
        )
        try:
            found = self._code.measure(within, self._opened, self._settings)
        except OpenWITError as error:
            raise type(error)(f"{self._name} on {self._where}: {error}") from error
        metrics = {f"{self._name}_{name}": figure.value for name, figure in found.metrics.items()}
        return Evaluation(metrics, f"step {position.step}: {self._sentence(found)}", found)

    @property
    def _where(self) -> str:
        return str(self._data.data or self._data.known)

    def _sentence(self, found: Measurement) -> str:
        skipped = f", {len(found.unreadable)} unreadable" if found.unreadable else ""
        shown = "  ".join(
            f"{name.replace('_', ' ')} {100 * figure.value:.1f}%"
            for name, figure in list(found.metrics.items())[:_SHOWN]
        )
        chance = next(iter(found.metrics.values())).chance
        guess = "" if chance is None else f"  (chance {100 * chance:.2f}%)"
        return f"{self._name.replace('_', '-')} on {self._where} ({found.images} images{skipped})  {shown}{guess}"


def _encoder(model: Any, context: EvalContext, layer: Layer) -> RunningEncoder:
    return RunningEncoder(model, context.device, context.autocast, layer)
