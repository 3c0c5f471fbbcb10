"""Count by class: lengths, sides, shapes and names; every class keeps its label, so that a chart needs no more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

CHARACTER_EDGES = (0, 10, 20, 30, 40, 60, 80, 120, 200, 400)
WORD_EDGES = (0, 2, 3, 5, 8, 12, 17, 25, 40, 77)
TEXT_EDGES = (1, 2, 3, 4, 5, 6, 11)
SIDE_EDGES = (0, 64, 128, 192, 256, 384, 512, 1024)
SERVED_EDGES = (0, 64, 128, 256, 512, 1024, 2048, 4096)

# Between the usual shapes of cameras and screens, at the geometric mean of two neighbours.
_SHAPE_EDGES = (1.05, 1.415, 1.633, 1.886, 2.5)
_SHAPES = ("about 4:3", "about 3:2", "about 16:9", "about 2:1", "beyond 5:2")
SHAPE_LABELS = (
    *(f"portrait, {shape}" for shape in reversed(_SHAPES)),
    "square (within 5 %)",
    *(f"landscape, {shape}" for shape in _SHAPES),
)
TOP = 12

Bars = list[dict[str, Any]]


def histogram(values: np.ndarray, edges: Sequence[int]) -> np.ndarray:
    """Count the values from each edge to below the next, the last without end: int64 (E,).

    Args:
        values: integers (N,), none below the first edge.
        edges: ascending.
    """
    classes = np.searchsorted(np.asarray(edges), values, side="right") - 1
    return np.bincount(classes, minlength=len(edges)).astype(np.int64)


def shapes(widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Count the images of each of SHAPE_LABELS, from tall to wide: int64 (11,).

    Args:
        widths, heights: pixels (N,), at least 1.
    """
    ratio = np.maximum(widths, heights) / np.minimum(widths, heights)
    away = np.searchsorted(np.asarray(_SHAPE_EDGES), ratio, side="right")
    middle = len(_SHAPES)
    return np.bincount(np.where(widths < heights, middle - away, middle + away), minlength=2 * middle + 1).astype(
        np.int64
    )


def sizes(widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Count the images by width (rows) and height (columns), by SERVED_EDGES: int64 (E, E)."""
    edges = np.asarray(SERVED_EDGES)
    across, down = (np.searchsorted(edges, values, side="right") - 1 for values in (widths, heights))
    counts = np.bincount(across * len(edges) + down, minlength=len(edges) ** 2)
    return counts.reshape(len(edges), len(edges)).astype(np.int64)


def edge_labels(edges: Sequence[int]) -> list[str]:
    """Return the label of each class of a histogram: `10–19`, `5`, `400+`."""
    return [str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in pairwise(edges)] + [f"{edges[-1]}+"]


def bars(labels: Sequence[str], counts: Sequence[int] | np.ndarray) -> Bars:
    """Return labels with their numbers; empty classes at both ends are omitted."""
    listed = [{"label": label, "n": int(n)} for label, n in zip(labels, counts, strict=True)]
    full = [at for at, bar in enumerate(listed) if bar["n"]]
    return listed[full[0] : full[-1] + 1] if full else []


def top(counter: Mapping[str, int], n: int = TOP) -> Bars:
    """Return the `n` most frequent names, and all others as one."""
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    listed = [{"label": label, "n": count} for label, count in ranked[:n]]
    rest = sum(count for _, count in ranked[n:])
    return [*listed, {"label": f"{len(ranked) - n:,} others", "n": rest}] if rest else listed


def spread(counts: Mapping[int, int]) -> dict[str, float]:
    """Return least, 5 %, median, 95 %, largest and mean of values given as value: number. Empty for none.

    The median is the least value that half of all do not exceed, and so for the others.
    """
    total = sum(counts.values())
    if not total:
        return {}
    values = np.array(sorted(counts))
    reached = np.cumsum([counts[int(value)] for value in values])
    at = {name: int(values[np.searchsorted(reached, share * total)]) for name, share in _SHARES.items()}
    mean = sum(value * n for value, n in counts.items()) / total
    return {"min": int(values[0]), **at, "max": int(values[-1]), "mean": round(mean, 2)}


_SHARES = {"p5": 0.05, "median": 0.5, "p95": 0.95}


def add_counts(counter: Counter[int], values: np.ndarray) -> None:
    """Add the numbers of each value to a counter."""
    found, counts = np.unique(values, return_counts=True)
    for value, n in zip(found.tolist(), counts.tolist(), strict=True):
        counter[value] += n


def holding_half(counter: Mapping[str, int]) -> int:
    """Return how few of the names hold half of all."""
    counts = np.sort(np.fromiter(counter.values(), np.int64, len(counter)))[::-1]
    if not len(counts):
        return 0
    return int(np.searchsorted(np.cumsum(counts), counts.sum() / 2)) + 1
