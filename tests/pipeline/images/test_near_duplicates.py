import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images.near_duplicates import block_masks, pairs_within, survivors


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
