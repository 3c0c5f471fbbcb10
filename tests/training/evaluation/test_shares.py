"""An evaluation by several processes has the numbers of one, and each of them has all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import shared_evaluation
from support.nursery import Nursery

from openwit.training.evaluation.shares import ALONE, Shares


class Fake:
    """A rank of a group that exchanges nothing."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@given(st.integers(0, 40), st.integers(1, 9), st.booleans())
def test_every_batch_is_of_one_process(batches: int, size: int, padded: bool) -> None:
    shares: list[Any] = [Shares(Fake(rank, size), padded=padded).of(batches) for rank in range(size)]  # type: ignore[arg-type]
    assert sorted(one for of_rank in shares for one in of_rank if one is not None) == list(range(batches))
    if padded:
        assert len({len(of_rank) for of_rank in shares}) == 1
    else:
        assert None not in [one for of_rank in shares for one in of_rank]
    assert ALONE.of(batches) == list(range(batches))


def test_two_processes_find_what_one_finds(factory: SimpleNamespace, tmp_path: Path, nursery: Nursery) -> None:
    samples = [factory.coloured(number * 3, "v") for number in range(43)]  # seven batches of 7, five of 10
    samples[9] = factory.Made("broken", b"no image", ("text",))
    folder = factory.write_dataset(tmp_path / "d", {"val": samples})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = shared_evaluation.evaluate(folder, ALONE)
    finally:
        torch.set_num_threads(before)
    assert one["unreadable"] == ["broken", "broken", "broken"]
    ended = nursery.programs([shared_evaluation.__file__, str(folder), str(tmp_path / "out")])
    assert [code for code, _, _ in ended] == [0, 0], ended
    for rank in range(2):
        for found in torch.load(tmp_path / f"out.{rank}"):
            assert found.keys() == one.keys()
            for name, value in one.items():
                same = torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name]
                assert same, (rank, name)


@pytest.mark.parametrize("padded", [True, False])
def test_a_lone_process_has_all(padded: bool) -> None:
    assert Shares(padded=padded).joined({1: "b", 0: "a"}) == ["a", "b"]
