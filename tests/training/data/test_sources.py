import functools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.config import DataSettings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.data.loader import Batch
from openwit.training.data.mixture import Mixture
from openwit.training.data.remote_tars import TarStream
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.sources import held_out_source, open_loader, open_source
from openwit.training.data.tar_index import TarDataset, local_tars
from openwit.training.tokenizer.bpe import clip_tokenizer

CASES = Path(__file__).parents[2] / "data" / "cases"
SPEC = ClipSpec(vision=VisionSpec(image_size=16, patch_size=8), text=TextSpec(context_length=8))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[SimpleNamespace]:
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield SimpleNamespace(start=start)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def small(factory: SimpleNamespace, tmp_path: Path) -> Path:
    samples = [factory.coloured(number, "s") for number in range(60)]
    return Path(factory.write_dataset(tmp_path / "small", {"train": samples, "val": samples[:4]}, per_shard=12))


def settings(batch_size: int = 10, **keys: object) -> DataSettings:
    return DataSettings.model_validate({"batch_size": batch_size, "workers": 1, "prefetch": 1, **keys})


def batches(data: DataSettings, count: int, start: int = 0, total: int | None = None, rank: int = 0, world: int = 1):
    said: list[str] = []
    source = open_source(data, seed=5, report=said.append)
    with open_loader(
        source,
        data,
        inputs=SPEC.inputs,
        tokenizer=clip_tokenizer(),
        seed=5,
        start=start,
        total=total,
        rank=rank,
        world=world,
    ) as loader:
        return list(islice(loader, count)), said


def keys(found: list[Batch]) -> list[str]:
    return [key for batch in found for key in batch.keys]


@pytest.mark.timeout(60)
def test_remote_tars_give_every_sample_and_say_what_it_costs(small: Path, serve: SimpleNamespace) -> None:
    data = settings(tars=[f"{serve.start(small)}/train/{{00000..00004}}.tar"], samples=60, shuffle_buffer=20)
    found, said = batches(data, 12)
    assert "shuffled only among 20 samples" in said[0]
    assert [batch.seen for batch in found] == [10] * 12
    assert found[0].images.shape == (10, 16, 16, 3)
    seen = Counter(keys(found))
    assert len(seen) == 60
    assert max(seen.values()) <= 3
    assert keys(found[:3]) != sorted(keys(found[:3]))
    again, _ = batches(data, 12)
    assert keys(again) == keys(found)
    assert all(torch.equal(a.images, b.images) for a, b in zip(found, again, strict=True))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_share_the_shards_and_none_waits(small: Path, serve: SimpleNamespace, world: int) -> None:
    # Five shards: uneven for two and three processes, too few for seven.
    url = serve.start(small)
    data = settings(21, tars=[f"{url}/train/0000{n}.tar" for n in range(5)], samples=60, shuffle_buffer=0, streams=2)
    parts = [batches(data, 99, total=63, rank=rank, world=world)[0] for rank in range(world)]
    assert [len(part) for part in parts] == [3] * world
    for step in range(3):
        assert sum(len(part[step].keys) for part in parts) == 21
        assert {part[step].seen for part in parts} == {21}
    assert len(set(keys([batch for part in parts for batch in part]))) > 40


@pytest.mark.timeout(60)
def test_a_resumed_stream_goes_on_near_its_place(small: Path, serve: SimpleNamespace) -> None:
    url = serve.start(small)
    data = settings(12, tars=[f"{url}/train/0000{n}.tar" for n in range(5)], samples=60, shuffle_buffer=0, streams=1)
    whole, _ = batches(data, 8)
    late, _ = batches(data, 5, start=3)
    assert keys(late) == keys(whole)[36:]


@pytest.mark.timeout(60)
def test_broken_tars_and_samples_are_counted(small: Path, serve: SimpleNamespace) -> None:
    cut = small / "train" / "00001.tar"
    cut.write_bytes(cut.read_bytes()[:9000])
    damaged = small / "train" / "00002.tar"
    damaged.write_bytes(damaged.read_bytes().replace(b'{"key"', b"{'key'", 1))
    url = serve.start(small)
    names = [f"{url}/train/{name}.tar" for name in ("00000", "00001", "00002", "none")]
    found, _ = batches(settings(tars=names, samples=48, shuffle_buffer=0), 6)
    reasons = {key: reason for batch in found for key, reason in batch.corrupt.items()}
    assert any(key.endswith("none.tar") and "FileNotFoundError" in reason for key, reason in reasons.items())
    assert sum(batch.repaired for batch in found) in (1, 2)  # its text member is good
    assert not any("JSON member" in reason for reason in reasons.values())
    assert any(key.endswith("00001.tar") and "damaged tar" in reason for key, reason in reasons.items())


@pytest.mark.timeout(60)
def test_tars_that_give_nothing_end_the_run(small: Path, serve: SimpleNamespace) -> None:
    url = serve.start(small)
    with pytest.raises(OpenWITError, match="in a row gave no sample"):
        batches(settings(tars=[f"{url}/none.tar"], samples=9), 3)


@pytest.mark.timeout(60)
def test_a_stream_takes_what_local_tars_take(serve: SimpleNamespace) -> None:
    url = serve.start(CASES)
    for case, name, count in [
        ("tar-gz", "00000.tar.gz", 16),
        ("tar-dotted-keys", "00000.tar", 16),
        ("tar-txt-and-odd-json", "00000.tar", 8),
    ]:
        data = settings(tars=[f"{url}/{case}/{name}"], samples=count, shuffle_buffer=0, batch_size=count)
        (batch,) = batches(data, 1)[0]
        local = TarDataset(local_tars([str(CASES / case)]))
        assert sorted(batch.keys) == sorted(local.key(index) for index in range(count))
        assert not batch.corrupt
        assert batch.repaired == (4 if count == 8 else 0)


def test_a_pipe_is_a_stream(small: Path) -> None:
    data = settings(tars=[f"pipe:cat {small}/train/00000.tar"], samples=12, shuffle_buffer=0, batch_size=12)
    assert sorted(keys(batches(data, 1)[0])) == [f"s{n:06d}" for n in range(12)]


def test_local_tars_are_indexed_and_have_everything(small: Path) -> None:
    data = settings(tars=[f"{small}/train"], batch_size=20)
    found, said = batches(data, 99, total=60)
    assert said == ["indexed 60 samples of 5 tars"]
    assert len(set(keys(found))) == 60
    assert keys(batches(data, 99, start=1, total=60)[0]) == keys(found)[20:]
    assert isinstance(open_source(data, seed=0, report=print), TarDataset)


@pytest.mark.timeout(60)
def test_a_remote_dataset_is_cached_whole(small: Path, serve: SimpleNamespace, tmp_path: Path) -> None:
    url, cache = serve.start(small), tmp_path / "cache"
    data = settings(dataset=url, cache=cache, batch_size=20)
    found, said = batches(data, 3)
    local, _ = batches(settings(dataset=small, batch_size=20), 3)
    assert keys(found) == keys(local)
    assert "copying 10 files" in said[0]
    assert batches(data, 1)[1] == []
    assert len(held_out_source(data, "val")) == 4
    with pytest.raises(OpenWITError, match="more than data.cache_bytes allows"):
        open_source(settings(dataset=url, cache=cache, cache_bytes=1000), seed=0, report=print)
    shutil.rmtree(cache / "train")
    tar = small / "train" / "00003.tar"
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    with pytest.raises(OpenWITError, match="does not have the checksum"):
        open_source(data, seed=0, report=print)
    manifest = DatasetManifest.load(small)
    manifest.model_copy(update={"name": "other"}).save(small)
    with pytest.raises(OpenWITError, match="holds another dataset"):
        open_source(data, seed=0, report=print)


@pytest.mark.timeout(60)
def test_a_remote_dataset_without_cache_is_streamed(small: Path, serve: SimpleNamespace) -> None:
    data = settings(dataset=serve.start(small), remote="stream")
    source = open_source(data, seed=0, report=lambda _: None)
    assert isinstance(source, TarStream)
    assert len(source) == 60
    assert len(keys(batches(data, 2)[0])) == 20
    with pytest.raises(OpenWITError, match="set data.cache"):
        held_out_source(data, "val")
    with pytest.raises(OpenWITError, match=r"manifest\.json cannot be read"):
        open_source(settings(dataset="http://127.0.0.1:9/x"), seed=0, report=print)


def test_several_datasets(small: Path, dataset: Path) -> None:
    shares = [{"dataset": str(small)}, {"dataset": str(dataset)}]
    data = settings(datasets=shares, batch_size=29)
    source = open_source(data, seed=0, report=print)
    assert isinstance(source, Mixture)
    assert len(source) == 60 + 288
    plain, _ = batches(data, 12)
    assert len(set(keys(plain))) == 348
    weighted = settings(datasets=[{**share, "weight": weight} for share, weight in zip(shares, (3, 1), strict=True)])
    drawn = keys(batches(weighted, 40)[0])
    assert Counter(key.split("/")[0] + "/" + key.split("/")[1] for key in drawn)["made/train#0"] == pytest.approx(
        300, abs=2
    )
    assert len(held_out_source(data, "val")) == 4


@pytest.mark.parametrize("world", [1, 2, 5, 30])
def test_ranks_make_the_single_batch(small: Path, world: int) -> None:
    data = settings(25, dataset=small, crop="random_resized_crop", crop_scale=(0.5, 1.0))
    alone, _ = batches(data, 99, total=60)
    parts = [batches(data, 99, total=60, rank=rank, world=world)[0] for rank in range(world)]
    assert {len(part) for part in parts} == {len(alone)} == {3}
    for step, batch in enumerate(alone):
        assert [key for part in parts for key in part[step].keys] == batch.keys
        assert torch.equal(torch.cat([part[step].images for part in parts]), batch.images)
        assert {part[step].seen for part in parts} == {batch.seen}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "exactly one of dataset, datasets, tars, table and folder, not none"),
        ({"dataset": "a", "tars": ["b"]}, "not dataset and tars"),
        ({"datasets": [{"dataset": "a", "weight": 1}, {"dataset": "b"}]}, "every dataset of datasets a weight"),
        ({"tars": ["a.tar", "http://x/b.tar"], "samples": 4}, "all local or all remote"),
        ({"tars": ["http://x/b.tar"]}, "streamed tars need samples"),
    ],
)
def test_settings_that_name_no_single_source(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**keys)


def test_a_path_stays_a_path_and_a_url_a_url() -> None:
    assert settings(dataset="out/demo").dataset == Path("out/demo")
    assert settings(dataset="s3://bucket/x").dataset == "s3://bucket/x"
    data = settings(dataset="s3://bucket/x")
    assert DataSettings.model_validate_json(data.model_dump_json()) == data


def test_an_empty_share_has_the_shapes_of_a_batch(small: Path) -> None:
    batch = batches(settings(2, dataset=small), 1, rank=0, world=4)[0][0]
    assert batch.images.shape == (0, 16, 16, 3)
    assert (batch.keys, batch.seen) == ([], 2)
    assert np.asarray(batch.tokens).shape[0] == 0
    assert isinstance(open_source(settings(dataset=small), seed=0, report=print), ShardedDataset)
