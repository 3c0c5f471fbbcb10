import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.range_server import RangeServer, range_server

from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError
from openwit.training.config import DataSettings
from openwit.training.config.zoo import InputSpec
from openwit.training.data.loader import Batch
from openwit.training.data.remote_blocks import CachedSplit, RangedSplit
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.sources import held_out_source, open_loader, open_source
from openwit.training.tokenizer.bpe import clip_tokenizer

pytestmark = pytest.mark.timeout(60)
INPUTS = InputSpec(image_size=16, context_length=8)
SHARDS, EACH = 8, 5


@pytest.fixture(scope="module")
def made(factory: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 samples in eight shards."""
    samples = [factory.coloured(number, "s") for number in range(SHARDS * EACH)]
    folder = tmp_path_factory.mktemp("remote") / "made"
    return Path(factory.write_dataset(folder, {"train": samples, "val": samples[:7]}, per_shard=EACH))


@pytest.fixture
def server(made: Path) -> Iterator[RangeServer]:
    with range_server(made) as found:
        yield found


def shard_bytes(made: Path) -> int:
    return max(
        (made / "train" / f"{n:05d}.tar").stat().st_size + (made / "train" / f"{n:05d}.idx.arrow").stat().st_size
        for n in range(SHARDS)
    )


def settings(server: RangeServer, **keys: Any) -> DataSettings:
    base = {"dataset": server.url, "batch_size": 7, "workers": 2, "prefetch": 3, "block_shards": 2, "streams": 2}
    return DataSettings.model_validate({**base, "remote_timeout": 5, **keys})


def blocks(server: RangeServer, made: Path, cache: Path, **keys: Any) -> DataSettings:
    return settings(server, cache=cache, cache_bytes=4 * shard_bytes(made), remote="blocks", **keys)


def batches(
    data: DataSettings, count: int, *, start: int = 0, rank: int = 0, world: int = 1, total: int | None = None
) -> list[Batch]:
    source = open_source(data, seed=5, report=lambda _: None)
    with open_loader(
        source,
        data,
        inputs=INPUTS,
        tokenizer=clip_tokenizer(),
        seed=5,
        start=start,
        total=total,
        rank=rank,
        world=world,
    ) as loader:
        return list(islice(loader, count))


def keys(found: list[Batch]) -> list[str]:
    return [key for batch in found for key in batch.keys]


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def test_blocks_and_ranges_have_one_order_at_every_world_and_after_resumption(
    server: RangeServer, made: Path, tmp_path: Path
) -> None:
    alone = batches(settings(server), 99, total=100)
    assert isinstance(open_source(settings(server), seed=5, report=print), RangedSplit)
    assert sum(Counter(keys(alone)[:40]).values()) == len(set(keys(alone)[:40])) == 40
    assert keys(alone)[:40] != keys(alone)[40:80]
    local = {key: ShardedDataset(made, "train").sample(index) for index, key in enumerate(sorted(keys(alone)[:40]))}
    assert len(local) == 40
    data = blocks(server, made, tmp_path / "cache")
    # Evicting all the time: eight shards through room for four.
    for world in (1, 2, 4):
        parts = [batches(data, 99, rank=rank, world=world, total=100) for rank in range(world)]
        for step, batch in enumerate(alone):
            assert [key for part in parts for key in part[step].keys] == batch.keys
            assert torch.equal(torch.cat([part[step].images for part in parts]), batch.images)
            assert not any(part[step].corrupt for part in parts)
    for start in (3, 9):
        assert keys(batches(data, 99, start=start, total=100)) == keys(alone[start:])
    assert server.asked["train/00000.tar"] > 3
    assert held(tmp_path / "cache" / "blocks") <= data.cache_bytes


def test_processes_side_by_side_share_a_cache_within_its_bound(
    server: RangeServer, made: Path, tmp_path: Path
) -> None:
    data = blocks(server, made, tmp_path / "cache", batch_size=4, workers=1, prefetch=1)
    alone = batches(settings(server, batch_size=4), 18)
    most, over = [0], threading.Event()

    def watch() -> None:
        folder = tmp_path / "cache" / "blocks"
        while not over.wait(0.002):
            try:
                most[0] = max(most[0], held(folder)) if folder.is_dir() else 0
            except FileNotFoundError:
                continue

    results: dict[int, list[Batch]] = {}
    step_of_all = threading.Barrier(3)  # as the exchange of gradients is

    def train(rank: int) -> None:
        source = open_source(data, seed=5, report=lambda _: None)
        with open_loader(
            source, data, inputs=INPUTS, tokenizer=clip_tokenizer(), seed=5, start=0, total=None, rank=rank, world=3
        ) as loader:
            results[rank] = [batch for batch in islice(loader, 18) if step_of_all.wait(20) >= 0]

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    for step, batch in enumerate(alone):
        assert [key for rank in range(3) for key in results[rank][step].keys] == batch.keys
    assert 0 < most[0] <= data.cache_bytes


def test_the_next_block_is_fetched_while_this_one_is_read(server: RangeServer, made: Path, tmp_path: Path) -> None:
    data = blocks(server, made, tmp_path / "cache", workers=0, batch_size=4)
    source = open_source(data, seed=5, report=print)
    assert isinstance(source, CachedSplit)
    with open_loader(source, data, inputs=INPUTS, tokenizer=clip_tokenizer(), seed=5, start=0, total=None) as loader:
        next(loader)
        until = time.monotonic() + 5
        while len(list((tmp_path / "cache" / "blocks").glob("*.tar"))) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        assert sum(count for path, count in server.asked.items() if path.endswith(".tar")) == 4
        asked = server.asked.copy()
        next(loader)  # still in the first block
        assert server.asked == asked


def test_a_split_that_fits_is_copied_and_one_that_does_not_is_read_in_blocks(
    server: RangeServer, made: Path, tmp_path: Path
) -> None:
    assert isinstance(open_source(settings(server, cache=tmp_path / "a"), seed=0, report=print), ShardedDataset)
    small = 4 * shard_bytes(made)
    said: list[str] = []
    data = settings(server, cache=tmp_path / "b", cache_bytes=small)
    assert isinstance(open_source(data, seed=0, report=said.append), CachedSplit)
    assert "shuffled within blocks of 2 of its 8 shards" in said[0]
    with pytest.raises(OpenWITError, match=r"two blocks of 3 shards .* more than data\.cache_bytes allows"):
        open_source(settings(server, cache=tmp_path / "c", cache_bytes=small, block_shards=3), seed=0, report=print)
    val = held_out_source(data, "val")
    assert [val.sample(index) for index in range(7)] == [ShardedDataset(made, "val").sample(i) for i in range(7)]
    assert val.key(3) == "s000003"
    with pytest.raises(ValueError, match="remote: blocks needs cache"):
        settings(server, remote="blocks")


@pytest.mark.parametrize("weights", [(None, None), (3, 1)])
def test_a_mixture_of_local_and_remote(
    server: RangeServer, made: Path, dataset: Path, tmp_path: Path, weights: tuple[float | None, float | None]
) -> None:
    shares = [
        {"dataset": url, "weight": weight} for url, weight in zip((server.url, str(dataset)), weights, strict=True)
    ]
    ranged = settings(server, dataset=None, datasets=shares, block_shards=3)
    cached = ranged.model_copy(
        update={"cache": tmp_path / "cache", "cache_bytes": 6 * shard_bytes(made), "remote": "blocks"}
    )
    alone = batches(ranged, 30)
    parts = [batches(cached, 30, rank=rank, world=2) for rank in range(2)]
    for step, batch in enumerate(alone):
        assert [key for part in parts for key in part[step].keys] == batch.keys
    assert keys(batches(cached, 5, start=13)) == keys(alone[13:18])
    own = sum(key.startswith("made/train#0/") for key in keys(alone))
    if weights[0]:
        assert own == pytest.approx(0.75 * 210, abs=2)
    assert 0 < own < 210


def test_a_store_that_hangs_or_refuses_is_asked_again_and_then_a_sentence(
    server: RangeServer, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openwit.training.data.remote_reads._PAUSE_S", 0.01)
    data = blocks(server, made, tmp_path / "cache", remote_timeout=0.3)
    good = keys(batches(data, 3))
    server.judge = lambda path, number: ("hang", "cut", "")[number % 3] if path.endswith(".tar") else ""
    server.asked.clear()
    again = blocks(server, made, tmp_path / "other", remote_timeout=0.3)
    assert keys(batches(again, 3)) == good
    source = open_source(settings(server, remote_timeout=0.3), seed=5, report=print)
    server.judge = lambda _path, _number: "hang"
    begun = time.monotonic()
    with pytest.raises(NetworkError, match=r"cannot be read after 3 attempts \(TimeoutError: no answer within 0\.3 s"):
        source.sample(0)
    with pytest.raises(NetworkError, match=r"manifest\.json cannot be read after 3 attempts"):
        open_source(settings(server, remote_timeout=0.2), seed=5, report=print)
    assert time.monotonic() - begun < 15


def test_another_checksum_is_noticed_and_nothing_is_kept(server: RangeServer, made: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    server.judge = lambda path, _number: "spoil" if path.endswith(".tar") else ""
    with pytest.raises(DataError, match=r"00\d+\.tar does not have the checksum of its manifest"):
        batches(blocks(server, made, cache), 2)
    time.sleep(0.3)  # those fetched ahead
    assert [path for path in (cache / "blocks").iterdir() if path.suffix in (".tar", ".part")] == []
    server.judge = lambda path, number: "spoil" if path.endswith(".tar") and number == 1 else ""
    server.asked.clear()
    assert len(keys(batches(blocks(server, made, cache), 2))) == 14


KILLED = """
import sys
from openwit.training.config import DataSettings
from openwit.training.data.datasets import open_datasets
data = DataSettings.model_validate_json(sys.argv[1])
source = open_datasets([(data.dataset, "train")], data, report=lambda _: None)[0]
print("up", flush=True)
[source.sample(index) for index in range(40)]
"""


def test_a_killed_download_leaves_no_half_shard(server: RangeServer, made: Path, tmp_path: Path) -> None:
    data = blocks(server, made, tmp_path / "cache", remote_timeout=30)
    server.judge = lambda path, _number: "hang" if path.endswith(".tar") else ""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, data.model_dump_json()], stdout=subprocess.PIPE, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        folder = tmp_path / "cache" / "blocks"
        until = time.monotonic() + 20
        while not list(folder.glob("*.tar.part")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert list(folder.glob("*.tar.part"))
    assert not list(folder.glob("*.tar"))
    server.judge = lambda _path, _number: ""
    assert keys(batches(data, 20)) == keys(batches(settings(server), 20))
    assert not list(folder.glob("*.part"))
    assert held(folder) <= data.cache_bytes


def test_a_server_of_whole_files_is_no_source_of_ranges(made: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(made)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    source = open_source(DataSettings.model_validate({"dataset": url, "batch_size": 4}), seed=0, report=print)
    with pytest.raises(NetworkError, match=r"served whole files only: set data\.cache"):
        source.sample(3)
    server.shutdown()
    server.server_close()


def test_a_stream_that_hangs_ends(server: RangeServer) -> None:
    server.judge = lambda path, _number: "hang" if path.endswith("3.tar") else ""
    tars = [f"{server.url}/train/0000{number}.tar" for number in range(5)]
    data = DataSettings.model_validate(
        {"tars": tars, "samples": 30, "batch_size": 5, "remote_timeout": 0.5, "shuffle_buffer": 0}
    )
    with pytest.raises(NetworkError, match=r"has given nothing for \d+ s \(data\.remote_timeout: 0\.5\)"):
        batches(data, 12)
