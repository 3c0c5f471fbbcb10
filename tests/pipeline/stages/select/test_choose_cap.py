import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.select.choose_cap import (
    cap_for_tail_share,
    cap_for_target_pairs,
    expected_pairs,
    tail_share,
)

POOLS = st.lists(st.integers(0, 500), min_size=1, max_size=30).map(lambda counts: np.array(counts, np.int64))


def test_tail_share_and_back():
    pool = np.array([1, 2, 3, 10, 100, 884])
    assert tail_share(pool, 10) == pytest.approx(0.006)
    assert cap_for_tail_share(pool, 0.006) == 3
    assert cap_for_tail_share(pool, 0.016) == 10
    assert cap_for_tail_share(pool, 0.5) == 884
    assert cap_for_tail_share(np.zeros(3, np.int64), 0.5) == 1


@given(POOLS, st.floats(0.01, 0.99))
def test_the_queries_up_to_t_reach_the_share_and_those_below_do_not(pool, share):
    t = cap_for_tail_share(pool, share)
    total = pool.sum()
    if total:
        assert pool[pool <= t].sum() >= share * total - 1e-9
        assert tail_share(pool, t) < share


def ragged(lists):
    return np.cumsum([0, *map(len, lists)]), np.array([q for row in lists for q in row], np.int32)


def test_a_pair_of_two_queries_is_kept_once():
    pool = np.array([100, 4])
    offsets, ids = ragged([[0], [0, 1], [1]])
    assert expected_pairs(pool, offsets, ids=ids, t=2) == pytest.approx(0.02 + (1 - 0.98 * 0.5) + 0.5)
    assert expected_pairs(pool, offsets, ids=ids, t=1000) == 3
    offsets, ids = ragged([])
    assert expected_pairs(pool, offsets, ids=ids, t=5) == 0


@given(st.data())
def test_the_t_of_a_target_is_the_smallest_that_reaches_it(data):
    queries = data.draw(st.integers(1, 6))
    rows = data.draw(st.lists(st.sets(st.integers(0, queries - 1), min_size=1), min_size=1, max_size=40))
    lists = [sorted(row) for row in rows]
    pool = np.bincount([q for row in lists for q in row], minlength=queries)
    offsets, ids = ragged(lists)
    target = data.draw(st.floats(0.1, len(lists)))
    t = cap_for_target_pairs(pool, offsets, ids=ids, target=target)
    assert expected_pairs(pool, offsets, ids=ids, t=t) >= target - 1e-9 or t == pool.max()
    assert t == 1 or expected_pairs(pool, offsets, ids=ids, t=t - 1) < target
