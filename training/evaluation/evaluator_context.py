"""Hold what evaluators work with during training and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from openwit.training.config import TrainConfig
from openwit.training.config.duration import Position
from openwit.training.engine.distributed import Group
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.shares import ALONE, Shares
from openwit.training.objectives.base import Objective
from openwit.training.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluator.

    Attributes:
        metrics: values for metrics.jsonl and TensorBoard.
        sentence: the same in words, in one line.
        details: a result object with more than the metrics; of any type.
        pictures: (H, W, 3) pixels by name, for TensorBoard.
    """

    metrics: dict[str, float]
    sentence: str
    details: Any = None
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class EvalContext:
    """Parts of a run that an evaluator uses.

    Attributes:
        config: of the run.
        objective: what the model is trained for.
        tokenizer: texts to token ids.
        device: of the model.
        autocast: precision of the towers, a context manager.
        progress: receives (done, total) during an evaluation.
        group: the processes of the run; None for a single process.
    """

    config: TrainConfig
    objective: Objective
    tokenizer: Tokenizer
    device: torch.device
    autocast: torch.autocast
    progress: Callable[[int, int], None]
    group: Group | None = None

    @property
    def shares(self) -> Shares:
        """Division of an evaluation over all processes."""
        return Shares(self.group, padded=self.config.distributed.strategy == "fsdp" and self.group is not None)

    def embedder(self, model: Any, *, shared: bool = False) -> Embedder:
        """Return an object that embeds images and texts with the model, in evaluation mode.

        Args:
            model: of the run.
            shared: each process embeds a part; all must make the same calls (`Evaluator.all_ranks`).
        """
        return Embedder(
            model,
            self.tokenizer,
            device=self.device,
            autocast=self.autocast,
            batch_size=self.config.eval.batch_size,
            shares=self.shares if shared else ALONE,
        )


class Evaluator(Protocol):
    """Measures a model during training.

    Created as `factory(context, **settings)` before training begins, so that missing data ends the run at once. The
    model is in training mode (`openwit.training.evaluation.embed.evaluating` changes that for a block) and its towers
    may be sharded: then every rank calls, and all must make the same calls. Otherwise the first rank calls and the
    others wait, unless the evaluator has an attribute `all_ranks` that is true: then all call, and share the work.

    Example:
        >>> class Temperature:
        ...     def __init__(self, context, *, unit=1.0):
        ...         self.unit = unit
        ...     def __call__(self, model, position):
        ...         value = float(model.logit_scale.exp()) / self.unit
        ...         return Evaluation({"temperature": value}, f"step {position.step}: temperature {value:.1f}")
    """

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Measure the model at a position of the run."""
        ...
