"""Move a step's batch to the device part by part, as bytes, while the loader prepares the next part."""

from collections.abc import Iterator

import torch
from torch import Tensor

from openwit.training.data.loader import CorruptCount
from openwit.training.data.parts import StepBatch
from openwit.training.engine.gradcache import Part, Rows, chunks_of
from openwit.training.engine.runtime import to_device
from openwit.training.objectives.base import Inputs
from openwit.training.run.reporting import FlopCount


class DeviceParts:
    """The chunks of one step, in order; afterwards what was in them. Iterated once.

    Images of several chunks lie side by side in one tensor of bytes, so that the whole batch is there for the loss
    without a copy.

    Args:
        batch: of this process.
        planned: its samples, unreadable ones included.
        chunk: samples in a chunk; None: all.
        device: to move them to.
        corrupt: notes unreadable samples.
        flops: notes samples and lengths of texts.
    """

    def __init__(
        self,
        batch: StepBatch,
        *,
        planned: int,
        chunk: int | None,
        device: torch.device,
        corrupt: CorruptCount,
        flops: FlopCount,
    ) -> None:
        self._batch, self._planned, self._chunk, self._device = batch, planned, chunk, device
        self._corrupt, self._flops = corrupt, flops
        self.keys: list[str] = []

    def __iter__(self) -> Iterator[Part]:
        store: Tensor | None = None
        for number, part in enumerate(self._batch):
            self._corrupt.note(part)
            self._flops.add(len(part.keys), part.tokens.shape[1])
            images, tokens = part.images, to_device(part.tokens, self._device)
            if self._chunk is None or self._planned <= self._chunk:
                images = to_device(images, self._device)
            else:
                if store is None:
                    planes = (self._planned, images.shape[3], *images.shape[1:3])
                    store = torch.empty(planes, dtype=images.dtype, device=self._device).permute(0, 2, 3, 1)
                held = len(self.keys)
                images = store[held : held + len(images)].copy_(_page_locked(images, self._device), non_blocking=True)
            self.keys += part.keys
            yield from chunks_of(Inputs(images, tokens), self._chunk, self._rows(number, part.rows))

    def _rows(self, number: int, rows: list[int] | None) -> Rows:
        first = number * (self._chunk or 0)
        return first if rows is None else [first + row for row in rows]


def _page_locked(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor if device.type == "cpu" or tensor.is_pinned() else tensor.pin_memory()
