"""Write checkpoints while training continues: the state is copied immediately and written by a thread.

From a GPU it is copied to page-locked memory without waiting: the copies are in the device's queue before the next
step, and the thread waits for them.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from openwit.schemas.common.storage.leases import Hold
from openwit.training.checkpoints.files import CheckpointInfo, checkpoint_path, save_checkpoint


class Saver:
    """Writes a run's checkpoints, one at a time and in order. Use as a context manager, whose end waits for the last.

    Args:
        run: folder of the run.
        keep: see `save_checkpoint`.
        background: write in a thread; memory then holds the state twice while it writes.
        pinned: copy to page-locked memory, which is kept for the next checkpoint.
        held: the lock of the run's folder.
    """

    def __init__(
        self, run: Path, keep: int, background: bool, *, pinned: bool = False, held: Hold | None = None
    ) -> None:
        self._run = run
        self._keep = keep
        self._held = held or Hold()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._writing: Future[Path] | None = None
        self._host = HostCopies(pinned=pinned)

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a full tensor of the state as `save` is to be given it: a copy that later steps cannot change.

        Without a thread it is the tensor itself, which is written before the next step; from a GPU its copy, as the
        whole state of a sharded model need not fit there.

        Raises:
            StorageError: the previous checkpoint could not be written.
        """
        if self._pool is None and not tensor.is_cuda:
            return tensor.contiguous()
        # The previous checkpoint is written from the memory that this one is copied to.
        self.wait()
        return self._host.copy(tensor)

    def save(self, info: CheckpointInfo, state: Mapping[str, Any]) -> Path:
        """Begin to write a checkpoint; return its path.

        Args:
            info: its JSON.
            state: nested mappings of what `take` returned and of plain values.

        Raises:
            StorageError: this one cannot be written, or, if a thread writes, the previous one; or another process
                has taken over the folder.
        """
        arrived = self._host.finish()
        if self._pool is None:
            arrived()
            self._held.check(ask=True)
            return save_checkpoint(self._run, info, state, self._keep)
        self.wait()

        def write() -> Path:
            arrived()
            self._held.check(ask=True)
            return save_checkpoint(self._run, info, state, self._keep)

        self._writing = self._pool.submit(write)
        return checkpoint_path(self._run, info.step)

    def check(self) -> None:
        """Report at once, not with the next checkpoint, that one could not be written or that the lock was lost.

        Raises:
            StorageError: a checkpoint cannot be written, or another process has taken over the folder.
        """
        self._held.check()
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: a checkpoint cannot be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


class HostCopies:
    """Copies of tensors in the host's memory.

    Args:
        pinned: in page-locked memory, which takes long to allocate: so it is used again, tensor by tensor in the same
            order, and copies from a GPU do not wait for it.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._kept: list[torch.Tensor] = []
        self._next = 0

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a contiguous copy; from a GPU it is complete when what `finish` returned has been called."""
        if not self._pinned:
            return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
        if self._next == len(self._kept):
            self._kept.append(self._allocated(tensor))
        target = self._kept[self._next]
        if (target.shape, target.dtype) != (tensor.shape, tensor.dtype):
            target = self._kept[self._next] = self._allocated(tensor)
        self._next += 1
        return target.copy_(tensor.detach(), non_blocking=True)

    def finish(self) -> Any:
        """End a series of copies; return a function that waits until they are complete."""
        self._next = 0
        if not self._pinned or not torch.cuda.is_available():
            return lambda: None
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return arrived.synchronize

    def _allocated(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
