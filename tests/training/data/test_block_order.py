from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openwit.training.data.block_order import BlockShuffle, largest_blocks
from openwit.training.data.sampling import BatchPlan

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(COUNTS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 5))
def test_every_sample_comes_once_and_a_block_holds_its_shards(
    counts: list[int], width: int, epoch: int, seed: int
) -> None:
    order = BlockShuffle(counts, seed, shards=width)
    size = sum(counts)
    found = order.at(epoch, np.arange(size))
    assert sorted(found.tolist()) == list(range(size))
    shard_of = np.repeat(np.arange(len(counts)), counts)
    start = 0
    for block in range(order.blocks):
        shards = order.shards(epoch, block).tolist()
        assert {order.block_of(epoch, shard) for shard in shards} == {block}
        stop = start + sum(counts[shard] for shard in shards)
        assert set(shard_of[found[start:stop]].tolist()) == set(shards)
        start = stop
    assert start == size


@given(COUNTS, st.integers(1, 4), st.data())
def test_a_position_is_computed_from_its_number_alone(counts: list[int], width: int, data: st.DataObject) -> None:
    size = sum(counts)
    whole = BlockShuffle(counts, 3, shards=width).at(1, np.arange(size))
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8))
    assert BlockShuffle(counts, 3, shards=width).at(1, np.array(places)).tolist() == whole[places].tolist()


def test_epochs_and_names_and_seeds_differ_and_ranks_do_not() -> None:
    counts = [20] * 12
    places = np.arange(240)
    orders = [
        BlockShuffle(counts, 1, shards=3),
        BlockShuffle(counts, 2, shards=3),
        BlockShuffle(counts, 1, "b", shards=3),
    ]
    found = {tuple(order.at(epoch, places).tolist()) for order in orders for epoch in range(2)}
    assert len(found) == 6
    firsts = Counter(int(orders[0].shards(epoch, 0)[0]) for epoch in range(600))
    assert len(firsts) == 12
    assert max(firsts.values()) < 90
    plan = BatchPlan(240, 37, 1, 1000, orders[0])
    for world in (2, 4):
        for step in (0, 6, 7):
            parts = [plan.share(step, rank, world)[0] for rank in range(world)]
            assert [place for part in parts for place in part] == plan.batch(step)


def test_the_largest_blocks() -> None:
    assert largest_blocks([1, 5, 3, 2], 1) == 8
    assert largest_blocks([1, 5], 4) == 6
