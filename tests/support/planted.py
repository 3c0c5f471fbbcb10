"""An objective whose loss is not finite in one process, once."""

from typing import Any

from torch import Tensor

from openwit.training.objectives.base import Group, Inputs, Loss
from openwit.training.objectives.contrastive import ContrastiveObjective


class Planted(ContrastiveObjective):
    """Contrastive; the part of the last rank is not a number the n-th time it is computed."""

    def __init__(self, *, nth: int) -> None:
        super().__init__()
        self._nth, self._calls = nth, 0

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        self._calls += 1
        found = super().loss(model, outputs, inputs, group)
        if self._calls != self._nth or (group is not None and group.rank != group.size - 1):
            return found
        return Loss(found.value * float("nan"), found.metrics)
