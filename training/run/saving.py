"""Write checkpoints while training continues: the state is copied immediately and written by a thread."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from openwit.training.checkpoints.files import CheckpointInfo, checkpoint_path, save_checkpoint


class Saver:
    """Writes a run's checkpoints, one at a time and in order. Use as a context manager, whose end waits for the last.

    Args:
        run: folder of the run.
        keep: see `save_checkpoint`.
        background: write in a thread; memory then holds the state twice while it writes.
    """

    def __init__(self, run: Path, keep: int, background: bool) -> None:
        self._run = run
        self._keep = keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._writing: Future[Path] | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def save(self, info: CheckpointInfo, state: Mapping[str, Any]) -> Path:
        """Begin to write a checkpoint; return its path.

        Raises:
            StorageError: this one cannot be written, or, if a thread writes, the previous one.
        """
        if self._pool is None:
            return save_checkpoint(self._run, info, state, self._keep)
        self.wait()
        self._writing = self._pool.submit(save_checkpoint, self._run, info, snapshot(state), self._keep)
        return checkpoint_path(self._run, info.step)

    def check(self) -> None:
        """Report at once, not with the next checkpoint, that one could not be written.

        Raises:
            StorageError: a checkpoint cannot be written.
        """
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


def snapshot(tree: Any) -> Any:
    """Return a copy of nested dicts and lists on the CPU that later steps cannot change."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {name: snapshot(part) for name, part in tree.items()}
    if isinstance(tree, list):
        return [snapshot(part) for part in tree]
    return tree
