from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config import DataSettings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.data.loader import BatchMaker, CorruptCount, Loader
from openwit.training.data.sampling import BatchPlan
from openwit.training.data.sharded import ShardedDataset
from openwit.training.tokenizer.bpe import clip_tokenizer

SPEC = ClipSpec(vision=VisionSpec(image_size=32, patch_size=8), text=TextSpec(context_length=8))


def maker(folder: Path, total: int | None = None, batch_size: int = 20, **settings: object) -> BatchMaker:
    dataset = ShardedDataset(folder, "train")
    data = DataSettings.model_validate({"dataset": folder, "batch_size": batch_size, **settings})
    plan = BatchPlan(len(dataset), batch_size, 0, total)
    return BatchMaker(dataset, plan, settings=data, inputs=SPEC.inputs, tokenizer=clip_tokenizer(), seed=0)


def collect(
    batch_maker: BatchMaker, start: int, workers: int, count: int
) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    with Loader(batch_maker, start, workers=workers, prefetch=3) as loader:
        return [(b.keys, b.images, b.tokens) for b, _ in zip(loader, range(count), strict=False)]


def test_batches_do_not_depend_on_threads_or_on_where_one_starts(dataset: Path) -> None:
    made = maker(dataset, crop="random_resized_crop", crop_scale=(0.3, 1.0), horizontal_flip=True)
    inline = collect(made, 0, 0, 18)
    for other in (collect(made, 0, 3, 18), inline[:5] + collect(made, 5, 2, 13)):
        assert len(other) == 18
        for (keys, images, tokens), (other_keys, other_images, other_tokens) in zip(inline, other, strict=True):
            assert keys == other_keys
            assert torch.equal(images, other_images)
            assert torch.equal(tokens, other_tokens)


def test_a_batch_has_bytes_and_trimmed_tokens(dataset: Path) -> None:
    batch = maker(dataset).make(0)
    assert batch is not None
    assert (batch.images.shape, batch.images.dtype) == ((20, 32, 32, 3), torch.uint8)
    assert batch.tokens.shape[1] <= 8
    assert bool((batch.tokens.max(dim=1).values == clip_tokenizer().end_of_text).all())
    assert batch.seen == len(batch.keys) == 20


def test_the_stream_ends(dataset: Path) -> None:
    assert [len(keys) for keys, _, _ in collect(maker(dataset, total=50), 0, 2, 99)] == [20, 20, 10]
    assert collect(maker(dataset, total=50), 3, 1, 99) == []


@pytest.fixture
def damaged(factory: SimpleNamespace, tmp_path: Path) -> Path:
    samples = [factory.coloured(number, "d") for number in range(40)]
    samples[3] = factory.Made("cut", samples[3].image[:200], samples[3].texts)
    samples[9] = factory.Made("none", samples[9].image, ())
    samples[11] = factory.Made("html", b"<html>gone</html>", samples[11].texts)
    return factory.write_dataset(tmp_path / "damaged", {"train": samples})


def test_unreadable_samples_are_left_out_with_their_reason(damaged: Path) -> None:
    batches = [maker(damaged).make(step) for step in range(2)]
    corrupt = {key: reason for batch in batches for key, reason in batch.corrupt.items()}
    assert corrupt.keys() == {"cut", "none", "html"}
    assert "no text" in corrupt["none"]
    assert "image" in corrupt["cut"]
    assert sum(len(batch.keys) for batch in batches) == 37
    assert sum(batch.seen for batch in batches) == 40
    for batch in batches:
        assert len(batch.images) == len(batch.tokens) == len(batch.keys)


def test_too_many_unreadable_samples_stop_the_run(damaged: Path) -> None:
    made = maker(damaged, batch_size=40)
    few = CorruptCount(40, 0.1, [])
    few.add(made.make(0))
    few.add(made.make(1))
    assert sorted(few.keys) == ["cut", "html", "none"]
    with pytest.raises(OpenWITError, match=r"3 samples are unreadable, more than data\.max_corrupt allows \(2\)"):
        CorruptCount(40, 0.05, []).add(made.make(0))
    with pytest.raises(OpenWITError, match="more than"):
        CorruptCount(40, 0.1, ["a", "b"]).add(made.make(0))


def test_a_batch_of_nothing_stops_the_run(factory: SimpleNamespace, tmp_path: Path) -> None:
    samples = [factory.Made(f"k{number}", b"", ("text",)) for number in range(4)]
    folder = factory.write_dataset(tmp_path / "broken", {"train": samples})
    batch = maker(folder, batch_size=4).make(0)
    assert batch.keys == []
    with pytest.raises(OpenWITError, match="no sample of a whole batch"):
        CorruptCount(4, 1.0, []).add(batch)


def test_an_error_in_a_thread_reaches_the_caller(dataset: Path) -> None:
    class Failing(BatchMaker):
        def make(self, step: int):
            if step == 2:
                raise OpenWITError("disk gone")
            return super().make(step)

    made = maker(dataset)
    made.__class__ = Failing
    with Loader(made, 0, workers=1, prefetch=4) as loader:
        next(loader), next(loader)
        with pytest.raises(OpenWITError, match="disk gone"):
            next(loader)
