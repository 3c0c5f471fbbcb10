import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.stages.dedup.near_duplicates import block_masks, pairs_within, survivors


def all_pairs(hashes, distance):
    """Through the keys, as the stage does it."""
    found = set()
    for mask in block_masks(distance):
        for a, b in pairs_within(hashes & mask, hashes, distance).tolist():
            found.add((min(a, b), max(a, b)))
    return found


@settings(max_examples=60)
@given(
    st.integers(0, 8),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 63), max_size=10)), max_size=25),
)
def test_nothing_within_the_distance_is_missed(distance, bases, flips):
    values = list(bases)
    for base, bits in flips:
        values.append(bases[base % len(bases)] ^ sum(1 << bit for bit in bits))
    hashes = np.array(values, np.uint64)
    plain = {
        (a, b)
        for a in range(len(values))
        for b in range(a + 1, len(values))
        if (values[a] ^ values[b]).bit_count() <= distance
    }
    assert all_pairs(hashes, distance) == plain


def test_a_large_group_of_equal_keys_is_compared_in_blocks():
    hashes = np.zeros(1500, np.uint64)
    assert len(pairs_within(hashes, hashes, 0)) == 1500 * 1499 // 2


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 20), st.data())
def test_survivors_are_never_neighbours_and_every_dropped_one_has_its_neighbour(n, data):
    node = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(node, node).filter(lambda e: e[0] != e[1]), max_size=40))
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    rank = np.array(data.draw(st.permutations(range(n))), np.int64)
    stands = survivors(edges, rank)
    neighbours = {frozenset(edge) for edge in pairs}
    for a in range(n):
        if stands[a] == a:
            assert all(stands[b] != b for b in range(n) if frozenset((a, b)) in neighbours and a != b)
        else:
            assert frozenset((a, int(stands[a]))) in neighbours
            assert stands[stands[a]] == stands[a]
            assert rank[stands[a]] < rank[a]


def plain_survivors(edges, rank):
    """The same in words: best first, who is not dropped yet survives and drops its neighbours."""
    stands = [-1] * len(rank)
    for node in sorted(range(len(rank)), key=lambda node: rank[node]):
        if stands[node] < 0:
            stands[node] = node
            for a, b in edges:
                for here, there in ((a, b), (b, a)):
                    if here == node and stands[there] < 0:
                        stands[there] = node
    return stands


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 20), st.data())
def test_survivors_equal_the_plain_rule(n, data):
    node = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(node, node), max_size=40))
    rank = data.draw(st.permutations(range(n)))
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    assert survivors(edges, np.array(rank, np.int64)).tolist() == plain_survivors(pairs, rank)


def test_a_million_images_take_no_time_to_speak_of():
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 1_000_000, (1_000_000, 2))
    rank = rng.permutation(1_000_000)
    survivors(edges[:9], rank)
    started = time.process_time()
    stands = survivors(edges, rank)
    assert time.process_time() - started < 5  # 0.2 s measured
    kept = stands == np.arange(len(stands))
    apart = edges[:, 0] != edges[:, 1]
    assert not (kept[edges[apart, 0]] & kept[edges[apart, 1]]).any()
    assert kept[stands].all()


def test_no_pairs_at_all():
    assert survivors(np.zeros((0, 2), np.int64), np.arange(3)).tolist() == [0, 1, 2]
    assert survivors(np.zeros((0, 2), np.int64), np.zeros(0, np.int64)).tolist() == []
