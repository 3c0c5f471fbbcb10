from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.training.data.mixture import Mixture, WeightedPlan
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import ShardedDataset

WEIGHTS = st.lists(st.integers(1, 50).map(lambda n: n / 10), min_size=2, max_size=4)


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.integers(0, 3000), st.integers(1, 3000), st.integers(0, 9))
def test_any_window_holds_each_dataset_by_its_weight(weights: list[float], start: int, length: int, seed: int) -> None:
    sizes = [7 + 3 * number for number in range(len(weights))]
    plan = WeightedPlan(sizes, weights, start + length, seed, None)
    places = plan.batch(0)
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    for window in (places[:length], places[start:]):
        found = Counter(next(n for n, end in enumerate(ends) if index < end) for _, index in window)
        for number, weight in enumerate(weights):
            assert abs(found[number] - len(window) * weight / sum(weights)) < 4


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.integers(100, 300), st.integers(0, 8))
def test_each_dataset_is_walked_through_whole_epochs(weights: list[float], batch_size: int, seed: int) -> None:
    sizes = [5 + 4 * number for number in range(len(weights))]
    plan = WeightedPlan(sizes, weights, batch_size, seed, 1200)
    places = [place for step in range(-(-1200 // batch_size)) for place in plan.batch(step)]
    assert len(places) == 1200
    first = 0
    for size in sizes:
        own = [(epoch, index - first) for epoch, index in places if first <= index < first + size]
        for epoch in range(len(own) // size):
            part = own[epoch * size : (epoch + 1) * size]
            assert {e for e, _ in part} == {epoch}
            assert sorted(index for _, index in part) == list(range(size))
        first += size


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.integers(1, 200), st.integers(0, 40), st.integers(1, 5))
def test_a_step_is_known_by_its_number_and_ranks_share_it(
    weights: list[float], batch_size: int, step: int, world: int
) -> None:
    sizes = [11] * len(weights)
    plan = WeightedPlan(sizes, weights, batch_size, 3, None)
    expected = plan.batch(step)
    again = WeightedPlan(sizes, weights, batch_size, 3, None)
    assert [place for rank in range(world) for place in again.share(step, rank, world)[0]] == expected


def test_a_very_small_weight_is_kept_too() -> None:
    plan = WeightedPlan([10, 10], [0.9995, 0.0005], 20_000, 0, None)
    assert 8 <= sum(index >= 10 for _, index in plan.batch(0)) <= 12


@pytest.fixture
def parts(factory: SimpleNamespace, tmp_path: Path) -> list[ShardedDataset]:
    samples = [factory.coloured(number, "m") for number in range(6)]
    broken = [*samples[:3], factory.Made("none", samples[0].image, ())]
    folders = [
        factory.write_dataset(tmp_path / "one", {"train": samples}, name="one"),
        factory.write_dataset(tmp_path / "two", {"train": broken}, name="two"),
    ]
    return [ShardedDataset(folder, "train") for folder in folders]


def test_keys_name_their_dataset(parts: list[ShardedDataset]) -> None:
    mixture = Mixture(parts)
    assert len(mixture) == 10
    assert mixture.name == "one+two"
    assert mixture.key(5) == f"one/{parts[0].key(5)}"
    assert mixture.sample(6).key == mixture.key(6) == f"two/{parts[1].key(0)}"
    with pytest.raises(CorruptSampleError, match=r"^two/none: no text$"):
        mixture.sample(9)
    for index in (-1, 10):
        with pytest.raises(IndexError):
            mixture.key(index)


def test_datasets_of_one_name_are_told_apart(parts: list[ShardedDataset]) -> None:
    assert Mixture([parts[0], parts[0]]).names == ["one/train#0", "one/train#1"]
    assert Mixture(parts).manifest_sha256 != Mixture(parts[::-1]).manifest_sha256
