"""An objective that fails on one of several processes, as a full GPU or a defect does."""

import os
import time
from typing import Any

import torch
from torch import Tensor

from openwit.training.engine import watch
from openwit.training.objectives.base import Group, Inputs, Loss
from openwit.training.objectives.contrastive import ContrastiveObjective

GPU_FULL = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 3.06 GiB is "
    "free. Process 12 has 76.04 GiB memory in use."
)


class Failing(ContrastiveObjective):
    """Contrastive, until rank 1 fails; rank 0 then waits, as it does inside NCCL, or goes on."""

    def __init__(self, *, how: str, waits: bool = False) -> None:
        super().__init__()
        self._how, self._waits, self._calls = how, waits, 0

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        self._calls += 1
        if self._calls == 3 and (group is None or group.rank == 1):
            fail(self._how)
        if self._calls == 3 and self._waits:
            watch.GRACE_SECONDS = 1.0
            time.sleep(1000)
        return super().loss(model, outputs, inputs, group)


def fail(how: str) -> None:
    if how == "gpu":
        raise torch.OutOfMemoryError(GPU_FULL)
    if how == "killed":
        os._exit(9)
    if how == "cpu":
        torch.empty(2**60, dtype=torch.uint8)
    raise KeyError(how)
