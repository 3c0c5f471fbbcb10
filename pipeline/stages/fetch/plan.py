"""Divide the selected pairs into tasks, and tasks into chunks, by the counts of host buckets and the settings only.

All URLs of a host are in one task. A task is a sequence of chunks, each with its own receipt and files: a URL is in
the chunk that its hash names, so that every chunk holds a fair share of each host, and a large host is many chunks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from openwit.pipeline.common.host_buckets import place


@dataclass(frozen=True)
class HostTask:
    """A task: its chunks, numbered over all tasks, and its pairs.

    Args:
        first, end: the chunks [first, end).
        pairs: in all of them.
    """

    first: int
    end: int
    pairs: int


@dataclass(frozen=True)
class FetchPlan:
    """The tasks, and the chunks of each bucket.

    Args:
        tasks: in order of their buckets.
        first, chunks: int64 (B,) each: the first chunk of a bucket's task, and how many the task has.
    """

    tasks: tuple[HostTask, ...]
    first: np.ndarray
    chunks: np.ndarray

    @property
    def end(self) -> int:
        """Return the number of chunks."""
        return self.tasks[-1].end if self.tasks else 0

    def chunks_of(self, buckets: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the chunk of each pair.

        Args:
            buckets: int64 (N,), the host bucket of each pair.
            places: uint64 (N,), its `place`.
        """
        share = (places >> np.uint64(32)) * self.chunks[buckets].astype(np.uint64) >> np.uint64(32)
        chunks: np.ndarray = self.first[buckets] + share.astype(np.int64)
        return chunks


def make_plan(counts: np.ndarray, *, task: int, chunk: int) -> FetchPlan:
    """Plan tasks of about `task` pairs and chunks of about `chunk` pairs.

    Args:
        counts: int64 (B,), pairs of each host bucket.
    """
    first, chunks = np.zeros(len(counts), np.int64), np.ones(len(counts), np.int64)
    tasks: list[HostTask] = []
    for low, high in runs_of_buckets(counts, task):
        pairs = int(counts[low : high + 1].sum())
        start, n = (tasks[-1].end if tasks else 0), max(1, round(pairs / chunk))
        first[low : high + 1], chunks[low : high + 1] = start, n
        tasks.append(HostTask(start, start + n, pairs))
    return FetchPlan(tuple(tasks), first, chunks)


def runs_of_buckets(counts: np.ndarray, target: int) -> list[tuple[int, int]]:
    """Split host buckets into runs of about `target` pairs.

    Args:
        counts: int64 (B,), pairs of each bucket.
        target: pairs a run aims at.

    Returns:
        (first, last) buckets of each run, both included; together they hold every pair, none twice.
    """
    runs, first, pairs = [], 0, 0
    for bucket, count in enumerate(counts.tolist()):
        pairs += count
        if pairs >= target:
            runs.append((first, bucket))
            first, pairs = bucket + 1, 0
    if pairs:
        runs.append((first, len(counts) - 1))
    return runs


def places_of(columns: Iterable[list[Any]]) -> np.ndarray:
    """Return the `place` of each pair: uint64 (N,).

    Args:
        columns: url, has_bytes, archive, record_offset of `SELECTED`.
    """
    return np.fromiter((place(*row) for row in zip(*columns, strict=True)), np.uint64)


def chunk_name(number: int) -> str:
    """Return the name of a chunk's files."""
    return f"{number:05d}"
