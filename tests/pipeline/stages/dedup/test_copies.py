import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.stages.dedup.copies import (
    best_neighbour,
    equal_groups,
    first_meeting,
    frequent_first,
    is_frequent,
    local_survivors,
    rank_words,
    settle,
)
from openwit.pipeline.stages.dedup.near_duplicates import block_masks


def words(*values):
    return np.array(values, np.uint64)


def test_a_held_out_image_ranks_before_a_larger_one_and_size_before_length_of_text():
    ranks = rank_words(np.array([False, True, False, False]), np.array([900, 1, 900, 901]), np.array([5, 1, 6, 0]))
    assert np.argsort(ranks).tolist() == [1, 3, 2, 0]
    assert not is_frequent(ranks).any()


def test_sizes_beyond_what_fits_are_taken_for_the_largest():
    ranks = rank_words(np.array([False, True]), np.array([2**50, 0]), np.array([2**40, 0]))
    assert np.argsort(ranks).tolist() == [1, 0]


def test_what_is_frequent_ranks_before_all_else():
    ranks = rank_words(np.array([True, False]), np.array([10**6, 4]), np.array([80, 1]))
    moved = frequent_first(ranks, np.array([False, True]))
    assert moved[1] < moved[0]
    assert is_frequent(moved).tolist() == [False, True]


def images(hashes, texts):
    n = len(hashes)
    return {
        "hash": words(*hashes),
        "rank": np.arange(n, 0, -1).astype(np.uint64),
        "tie": np.zeros(n, np.uint64),
        "text": words(*texts),
    }


def test_images_of_equal_hash_are_one_group_and_the_last_ranked_first_is_its_best():
    groups = equal_groups(images([7, 3, 7, 7, 3], [0] * 5), None, None)
    assert groups.of.tolist() == [1, 0, 1, 1, 0]
    assert groups.best.tolist() == [4, 3]
    assert groups.frequent.tolist() == [False, False]


def test_a_group_is_frequent_by_its_different_texts_not_by_its_images():
    groups = equal_groups(images([7, 7, 7, 3, 3, 3], [1, 2, 3, 1, 1, 2]), None, 3)
    assert groups.frequent.tolist() == [False, True]


def test_images_of_equal_hash_that_do_not_look_alike_are_two_groups():
    prints = np.zeros((4, 44), np.uint8)
    prints[1, :32] = 255  # other frequencies
    prints[2, 32::3] = 200  # red
    groups = equal_groups(images([7, 7, 7, 7], [0] * 4), prints, None)
    assert groups.of.tolist() == [0, 2, 1, 0]
    assert groups.best[groups.of].tolist() == [3, 1, 2, 3]


def test_no_images_are_no_groups():
    assert len(equal_groups(images([], []), None, 2).best) == 0


@given(st.integers(0, 8), st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=8))
def test_a_pair_is_reported_under_the_first_block_pair_it_shares(distance, base, flips):
    flips = sorted(flips)[:distance]
    masks = block_masks(distance)
    other = base ^ sum(1 << bit for bit in flips)
    shared = [n for n, mask in enumerate(masks.tolist()) if base & mask == other & mask]
    assert first_meeting(words(base ^ other), masks).tolist() == shared[:1]


def greedy(n, edges, rank):
    """The plain rule: in order of rank, who is not dropped yet survives and drops its neighbours."""
    alive, gone = set(), set()
    for node in sorted(range(n), key=lambda node: rank[node]):
        if node not in gone:
            alive.add(node)
            gone |= {b for a, b in edges if a == node} | {a for a, b in edges if b == node}
    return alive


def directed(edges, rank):
    pairs = sorted({(a, b) for a, b in edges} | {(b, a) for a, b in edges})
    node, other = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    rank = np.array(rank, np.uint64)
    return {
        "node_id": node.astype(np.uint64),
        "node_rank": rank[node],
        "node_tie": node.astype(np.uint64),
        "other_id": other.astype(np.uint64),
        "other_rank": rank[other],
        "other_tie": other.astype(np.uint64),
    }


@settings(max_examples=300)
@given(st.integers(2, 14), st.data())
def test_two_rounds_and_a_remainder_leave_the_survivors_of_the_greedy_rule(n, data):
    node = st.integers(0, n - 1)
    edges = data.draw(st.sets(st.tuples(node, node).filter(lambda e: e[0] < e[1]), min_size=1, max_size=25))
    rank = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))  # equal ranks: the tie decides
    table = directed(edges, rank)
    survivors = local_survivors(table)
    claims = {name: values[np.isin(table["other_id"], survivors)] for name, values in table.items()}
    claimed = best_neighbour(claims)
    lost = dict(zip(claims["node_id"][claimed].tolist(), claims["other_id"][claimed].tolist(), strict=True))
    open_ = ~np.isin(table["node_id"], np.union1d(survivors, claims["node_id"]))
    rest = {name: values[open_] for name, values in table.items()}
    chosen = settle(rest)
    assert not set(lost) & set(rest["node_id"][chosen].tolist())
    lost |= dict(zip(rest["node_id"][chosen].tolist(), rest["other_id"][chosen].tolist(), strict=True))
    alive = greedy(n, edges, [(r, h) for h, r in enumerate(rank)])
    assert set(range(n)) - set(lost) == alive
    for gone, kept in lost.items():
        assert kept in alive
        assert (min(gone, kept), max(gone, kept)) in edges
