"""Batches in parts are the batches; little of them is in memory, and the first part does not wait for the last."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openwit.training.config import DataSettings
from openwit.training.config.zoo import InputSpec
from openwit.training.data.loader import Batch, BatchMaker
from openwit.training.data.parts import PartLoader, StepLoader, Task
from openwit.training.data.sources import open_source, open_steps
from openwit.training.tokenizer.bpe import clip_tokenizer

INPUTS = InputSpec(image_size=32, context_length=8)


def steps(folder: Path, chunk: int | None, **more: Any) -> StepLoader:
    data = DataSettings.model_validate({"dataset": folder, "batch_size": 20, **more.pop("data", {})})
    source = open_source(data, seed=0, report=lambda _: None)
    arguments: dict[str, Any] = {"inputs": INPUTS, "tokenizer": clip_tokenizer(), "seed": 0, "start": 0, "total": 50}
    return open_steps(source, data, chunk=chunk, **{**arguments, **more})


def collect(loader: StepLoader) -> list[tuple[int, list[str], torch.Tensor, dict[str, str]]]:
    found = []
    with loader:
        while (batch := next(loader, None)) is not None:
            parts = list(batch)
            keys = [key for part in parts for key in part.keys]
            corrupt = {key: reason for part in parts for key, reason in part.corrupt.items()}
            found.append((batch.seen, keys, torch.cat([part.images for part in parts]), corrupt))
    return found


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("chunk", [1, 7, 20, 99])
def test_parts_put_together_are_the_batch(dataset: Path, chunk: int, workers: int) -> None:
    whole = collect(steps(dataset, None))
    parts = collect(steps(dataset, chunk, data={"workers": workers}))
    assert [seen for seen, *_ in parts] == [20, 20, 10]
    for one, other in zip(whole, parts, strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


def test_parts_of_several_processes_and_an_empty_one(dataset: Path) -> None:
    whole = collect(steps(dataset, None, total=2))
    ranks = [collect(steps(dataset, 3, total=2, rank=rank, world=3)) for rank in range(3)]
    assert [len(rank[0][1]) for rank in ranks] == [0, 1, 1]
    assert whole[0][1] == [key for rank in ranks for key in rank[0][1]]
    assert ranks[0][0][2].shape == (0, 32, 32, 3)


def test_places_of_samples_beside_unreadable_ones(factory: SimpleNamespace, tmp_path: Path) -> None:
    samples = [factory.coloured(number, "d") for number in range(6)]
    samples[2] = factory.Made("cut", samples[2].image[:200], samples[2].texts)
    folder = factory.write_dataset(tmp_path / "damaged", {"train": samples})
    with steps(folder, 4, data={"batch_size": 6}, total=6) as loader:
        parts = list(next(loader))
    assert sum(len(part.keys) for part in parts) == 5
    (damaged,) = (part for part in parts if part.corrupt)
    assert damaged.rows is not None
    assert len(damaged.rows) == len(damaged.keys)
    assert [part.rows for part in parts if part is not damaged] == [None]


def empty(seen: int = 8) -> Batch:
    return Batch(torch.empty(0, 2, 2, 3, dtype=torch.uint8), torch.empty(0, 2, dtype=torch.int64), [], seen)


def test_the_first_part_is_there_before_the_second_is_made() -> None:
    gate = threading.Event()

    def slow() -> Batch:
        assert gate.wait(10)
        return empty()

    with PartLoader(iter([Task(0, empty), Task(0, slow), Task(1, empty)]), workers=1, ahead=3) as loader:
        parts = iter(next(loader))
        next(parts)
        gate.set()
        assert len(list(parts)) == 1
        assert len(list(next(loader))) == 1
        with pytest.raises(StopIteration):
            next(loader)


@pytest.mark.parametrize("workers", [1, 5])
def test_no_more_than_a_batch_is_ahead(dataset: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    made: list[int] = []
    original = BatchMaker._batch

    def counted(self: BatchMaker, places: Any, seen: int) -> Batch:
        made.append(len(places))
        return original(self, places, seen)

    monkeypatch.setattr(BatchMaker, "_batch", counted)
    taken = 0
    with steps(dataset, 4, total=200, data={"workers": workers, "prefetch": 1}) as loader:
        while (batch := next(loader, None)) is not None:
            for part in batch:
                assert sum(made) <= taken + 20 + 4
                taken += len(part.keys)
    assert (taken, max(made)) == (200, 4)
