"""Counts what grows with the number of files: files opened and open at a time, bytes sent to workers and back."""

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.execution.pool import InProcessPool, Work
from openwit.pipeline.execution.pool_engine import PoolEngine


@dataclass
class Growth:
    """What was counted.

    Attributes:
        opens: of files.
        open_at_a_time: most files that this process had open at a time, beyond those at the beginning.
        sent: bytes of the work of all jobs (a Beam graph holds them) and of their items, pickled.
        held: bytes of what items return to the driver, pickled.
        largest: bytes of the largest item or work.
    """

    opens: int = 0
    open_at_a_time: int = 0
    sent: int = 0
    held: int = 0
    largest: int = 0

    def reset(self) -> None:
        """Begin again."""
        self.opens = self.open_at_a_time = self.sent = self.held = self.largest = 0

    def send(self, value: Any) -> None:
        """Count a value that is sent to workers."""
        size = len(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        self.sent += size
        self.largest = max(self.largest, size)


class CountingPool(InProcessPool):
    """Runs items in this process, and counts what other processes would be sent and would send."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth

    def run(self, work: Work, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """See `Pool`."""
        self._growth.send(work)
        for item in items:
            self._growth.send(item)
        for index, result in super().run(work, items, names):
            self._growth.held += len(pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
            yield index, result


_watched: list[tuple[Growth, str, int]] = []


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _count(path: object) -> None:
    for growth, folder, before in _watched:
        if str(path).startswith(folder):
            growth.opens += 1
            growth.open_at_a_time = max(growth.open_at_a_time, _open_files() - before)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched:
        _count(arguments[0])


_hooked: list[bool] = []


@contextmanager
def counted(folder: Path) -> Iterator[tuple[Growth, PoolEngine]]:
    """Yield counts, and an engine whose work is counted with every file that is opened below a folder."""
    if not _hooked:
        sys.addaudithook(_audit)  # it stays, and does nothing outside of this block
        _hooked.append(True)
    growth = Growth()
    _watched.append((growth, str(folder), _open_files()))
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Arrow opens files itself, unseen by Python.
            for module, name in ((pq, "ParquetFile"), (pq, "read_table"), (pa, "memory_map"), (pa, "OSFile")):
                patch.setattr(module, name, _counting(getattr(module, name)))
            yield growth, PoolEngine(CountingPool(growth))
    finally:
        _watched.pop()


def _counting(original: Any) -> Any:
    if not isinstance(original, type) or original is not pq.ParquetFile:

        def call(path: object, *arguments: Any, **keywords: Any) -> Any:
            _count(path)
            return original(path, *arguments, **keywords)

        return call

    class Counted(original):  # type: ignore[misc, valid-type]
        def __init__(self, path: object, *arguments: Any, **keywords: Any) -> None:
            _count(path)
            super().__init__(path, *arguments, **keywords)

    return Counted
