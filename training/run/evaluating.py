"""Evaluate a model during a run, on all ranks or on the first, and keep the last result of each evaluator."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from openwit.training.config import TrainConfig
from openwit.training.config.duration import Position
from openwit.training.engine.distributed import Group, average_buffers
from openwit.training.engine.ema import Ema
from openwit.training.engine.parallel import reshard
from openwit.training.evaluation.evaluators import Evaluation, ScheduledEvaluator
from openwit.training.run.progress import Display
from openwit.training.run.reporting import Reporter


@dataclass(frozen=True)
class Evaluating:
    """The evaluations of one start of a run.

    Attributes:
        config: the run.
        model: that is trained.
        average: moving average of its weights, if that is evaluated in its place.
        group: the processes that share the batch; None for a single process.
        display: shows results.
        results: the last result of each evaluator, by name.
    """

    config: TrainConfig
    model: nn.Module
    average: Ema | None
    group: Group | None
    display: Display
    results: dict[str, Evaluation] = field(default_factory=dict)

    def run(self, evaluators: list[ScheduledEvaluator], position: Position, reporter: Reporter) -> None:
        """Evaluate on all ranks, or on rank 0 while the others wait (a custom evaluator, unless sharded)."""
        if not evaluators:
            return
        main = self.group is None or self.group.main
        with reporter.ledger.span("eval"):
            if self.group is not None:
                average_buffers(self.model, self.group)
            every = self.config.distributed.strategy == "fsdp"
            own = [each for each in evaluators if main or every or each.all_ranks]
            if own:
                weights = self.average.in_place() if self.average else nullcontext()
                with weights, _not_compiled(self.config.speed.compile):
                    for each in own:
                        found = each.run(self.model, position)
                        reshard(self.model)
                        self.results[each.name + each.suffix] = found
                        reporter.log.write("eval", position.step, found.metrics)
                        for name, pixels in found.pictures.items():
                            reporter.log.picture("eval", position.step, name + each.suffix, pixels)
                        self.display.say(found.sentence)
            if self.group is not None:
                self.group.barrier()


def _not_compiled(compiled: bool) -> AbstractContextManager[Any]:
    """Run without compiled code: an evaluation has other shapes, each of which would be compiled."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
