"""The laws of the balance (DESIGN: "Selection, exactly")."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.stages.select.balance import (
    cap_smallest,
    list_column,
    probabilistic_thresholds,
    ragged,
    send_bounds,
)
from openwit.pipeline.stages.select.draw import keep_drawn
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform

QUERIES = query_hashes([f"query {n}" for n in range(6)])


@st.composite
def pools(draw):
    """A pool: for each pair the set of queries that match it."""
    sets = draw(st.lists(st.sets(st.integers(0, 5), max_size=4), min_size=1, max_size=60))
    return [sorted(s) for s in sets]


def select(pool, cap, seed=0, names=None):
    """The plain definition over the pieces: returns kept row names and drawn counts."""
    names = list(range(len(pool))) if names is None else names
    pairs = np.array([n * 2654435761 + 17 for n in names], np.uint64)
    rows, ids = ragged(pa.array(pool, pa.list_(pa.int32())))
    u = uniform(pairs[rows], QUERIES[ids], seed=seed)
    thresholds = np.ones(len(QUERIES))
    found, values, sent = cap_smallest(ids, u, cap)
    thresholds[found[sent > cap]] = values[sent > cap]
    result = keep_drawn(rows, ids, u=u, thresholds=thresholds, n=len(pool))
    drawn = np.bincount(result.drawn_by.flatten().to_numpy(), minlength=len(QUERIES))
    return {names[i] for i in np.flatnonzero(result.kept)}, drawn, result


@given(pools(), st.integers(1, 12))
def test_no_query_draws_more_than_its_cap_and_the_tail_keeps_all(pool, cap):
    kept, drawn, _ = select(pool, cap)
    matches = np.bincount([q for row in pool for q in row], minlength=len(QUERIES))
    assert (drawn == np.minimum(matches, cap)).all()
    for row, queries in enumerate(pool):
        if any(matches[q] <= cap for q in queries):
            assert row in kept


@given(pools(), st.integers(1, 8), st.integers(1, 8))
def test_a_larger_cap_only_adds(pool, cap, more):
    assert select(pool, cap)[0] <= select(pool, cap + more)[0]


@given(pools(), st.integers(1, 8), st.data())
def test_taking_pairs_out_only_lets_others_in(pool, cap, data):
    gone = data.draw(st.sets(st.integers(0, len(pool) - 1), max_size=len(pool) - 1))
    left = [n for n in range(len(pool)) if n not in gone]
    assert select(pool, cap)[0] - gone <= select([pool[n] for n in left], cap, names=left)[0]


@given(pools(), st.integers(1, 8), st.randoms(use_true_random=False))
def test_the_order_of_the_pool_does_not_matter(pool, cap, random):
    order = list(range(len(pool)))
    random.shuffle(order)
    assert select(pool, cap)[0] == select([pool[n] for n in order], cap, names=order)[0]


def test_priority_says_how_near_a_pair_came():
    pool = [[0]] * 50 + [[]]
    kept, _, result = select(pool, 5)
    assert len(kept) == 5
    assert all((result.priority[row] <= 1) == (row in kept) for row in range(51))
    assert result.nearest[50] == -1
    assert np.isinf(result.priority[50])


def test_probabilistic_size_agrees_with_its_expectation():
    rng = np.random.default_rng(0)
    pool = [sorted(set(rng.choice(6, size=3, p=[0.5, 0.2, 0.15, 0.1, 0.04, 0.01]))) for _ in range(20_000)]
    rows, ids = ragged(pa.array(pool, pa.list_(pa.int32())))
    counts = np.bincount(ids, minlength=6)
    thresholds = probabilistic_thresholds(counts, 1000)
    u = uniform(np.arange(20_000, dtype=np.uint64)[rows], QUERIES[ids], seed=0)
    kept = keep_drawn(rows, ids, u=u, thresholds=thresholds, n=len(pool)).kept.sum()
    keep_probability = np.array([1 - np.prod([1 - thresholds[q] for q in row]) for row in pool])
    deviation = np.sqrt((keep_probability * (1 - keep_probability)).sum())
    assert abs(kept - keep_probability.sum()) < 5 * deviation


def test_the_bound_lets_the_cap_smallest_through():
    pool = np.array([10, 100, 10_000])
    bounds = send_bounds(pool, 100)
    assert bounds[0] == bounds[1] == 1.0
    assert bounds[2] == (100 + 60) / 10_000


def test_u_is_uniform_and_depends_on_seed_pair_and_query():
    pairs = np.arange(100_000, dtype=np.uint64)
    u = uniform(pairs, np.full(100_000, QUERIES[0]), seed=0)
    assert u.min() > 0
    assert u.max() <= 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert (abs(counts - 5000) < 6 * np.sqrt(5000)).all()
    other = uniform(pairs, np.full(100_000, QUERIES[1]), seed=0)
    again = uniform(pairs, np.full(100_000, QUERIES[0]), seed=1)
    for v in (other, again):
        assert abs(np.corrcoef(u, v)[0, 1]) < 0.02


def test_pair_hashes_of_a_slice():
    ids = pa.array([bytes([n] * 16) for n in range(5)], pa.binary(16))
    assert (pair_hashes(ids.slice(2)) == pair_hashes(ids)[2:]).all()


@settings(max_examples=30)
@given(pools())
def test_list_column_is_the_inverse_of_ragged(pool):
    array = pa.array(pool, pa.list_(pa.int32()))
    rows, values = ragged(array)
    assert list_column(rows, values, len(pool)).to_pylist() == pool
