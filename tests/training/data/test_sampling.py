from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openwit.training.data.sampling import BatchPlan, Shuffle, pick_text, sample_rng


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 4), st.integers(0, 99))
def test_every_sample_exactly_once_an_epoch(size: int, batch_size: int, epochs: int, seed: int) -> None:
    plan = BatchPlan(size, batch_size, seed, size * epochs)
    steps = -(-size * epochs // batch_size)
    batches = [plan.batch(step) for step in range(steps)]
    assert plan.batch(steps) == []
    assert all(len(batch) == batch_size for batch in batches[:-1])
    seen = Counter(place for batch in batches for place in batch)
    assert seen == Counter((epoch, index) for epoch in range(epochs) for index in range(size))


@given(st.integers(2, 50), st.integers(1, 20), st.integers(0, 30))
def test_a_step_is_the_same_whenever_it_is_asked_for(size: int, batch_size: int, step: int) -> None:
    onward = BatchPlan(size, batch_size, 7, None)
    for earlier in range(step):
        onward.batch(earlier)
    assert onward.batch(step) == BatchPlan(size, batch_size, 7, None).batch(step)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = (BatchPlan(50, 50, 1, None).batch(step) for step in (0, 1))
    other = BatchPlan(50, 50, 2, None).batch(0)
    orders = [[index for _, index in batch] for batch in (first, second, other)]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != sorted(orders[0])


def test_a_sample_draws_anew_each_epoch_but_the_same_each_time() -> None:
    texts = ("a", "b", "c")
    drawn = [pick_text(texts, "random", sample_rng(5, epoch, "key")) for epoch in range(300)]
    assert drawn == [pick_text(texts, "random", sample_rng(5, epoch, "key")) for epoch in range(300)]
    assert all(60 < count < 140 for count in Counter(drawn).values())
    assert pick_text(texts, "first", sample_rng(5, 0, "key")) == "a"


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 9), st.integers(0, 5))
def test_parts_of_ranks_make_up_the_batch(size: int, batch_size: int, world: int, step: int) -> None:
    plan = BatchPlan(size, batch_size, 1, 2 * size + 1)
    shares = [plan.share(step, rank, world) for rank in range(world)]
    whole = plan.batch(step)
    assert [place for share, _ in shares for place in share] == whole
    assert {seen for _, seen in shares} == {len(whole)}
    sizes = [len(share) for share, _ in shares]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 5000), st.integers(0, 99), st.integers(0, 20))
def test_a_shuffle_is_an_order_whose_places_stand_alone(size: int, seed: int, epoch: int) -> None:
    shuffle = Shuffle(size, seed)
    order = shuffle.at(epoch, np.arange(size))
    assert sorted(order.tolist()) == list(range(size))
    some = np.arange(size)[:: max(1, size // 5)]
    assert shuffle.at(epoch, some).tolist() == order[some].tolist()


def test_a_shuffle_mixes_well() -> None:
    size = 100_003
    orders = [Shuffle(size, 0).at(epoch, np.arange(size)) for epoch in range(2)]
    for order in (*orders, orders[1][np.argsort(orders[0])]):
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.015
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.015
        # Each tenth of the range comes evenly in each tenth of the time.
        cells, _, _ = np.histogram2d(order, np.arange(size), bins=10)
        assert abs(cells / (size / 100) - 1).max() < 0.15


def test_a_shuffle_of_hundreds_of_millions_takes_no_time() -> None:
    found = Shuffle(400_000_000, 0).at(3, np.arange(399_999_000, 400_000_000))
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0
    assert found.max() < 400_000_000
