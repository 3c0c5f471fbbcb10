from collections.abc import Iterator

import numpy as np
import pytest

from openwit.training.evaluation.search import exact
from openwit.training.evaluation.search.exact import exact_search


def in_blocks(vectors: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    return ((start, vectors[start : start + size]) for start in range(0, len(vectors), size))


@pytest.mark.parametrize(("block", "scores"), [(1, 1 << 24), (7, 10), (1000, 50), (1000, 1 << 24)])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_nearest_are_those_of_a_full_sort(
    block: int, scores: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "_MOST_SCORES", scores)
    rng = np.random.default_rng(k)
    # Few distinct values, so that equal scores are common: then the smaller number comes first.
    vectors = rng.integers(-1, 2, (30, 4)).astype(np.float32)
    vectors[3] = np.nan
    queries = rng.integers(-1, 2, (6, 4)).astype(np.float32)
    found = exact_search(in_blocks(vectors, block), queries, k)
    for query in range(6):
        table = np.nan_to_num(vectors @ queries[query], nan=-np.inf)
        order = sorted(range(30), key=lambda n, table=table: (-table[n], n))[:k]  # type: ignore[misc]
        assert found.numbers[query, : len(order)].tolist() == order
        assert found.scores[query, : len(order)].tolist() == [table[n] for n in order]
        assert (found.numbers[query, 30:] == -1).all()
