"""The shard stage on finished folders made by hand: what readers find, sizes, kills, worker counts, a full disk."""

import hashlib
import io
import json
import resource
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset
from PIL import Image
from pydantic import ValidationError
from support.pictures import picture
from support.survivors import finished_dedup, survivor

from openwit.pipeline.dataset import write_shard
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution import exchange, routed
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.shard import Shard, spill
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX


@pytest.fixture(scope="module")
def deduplicated(tmp_path_factory):
    """Two files of pictures; three of four images survive."""
    rows = [
        survivor(n, picture(n, form="JPEG", size=(64 + n % 40, 80)), 1 + n % 3, "val" if n % 5 == 0 else "train")
        for n in range(160)
    ]
    return finished_dedup(tmp_path_factory.mktemp("shard"), [rows[:100], rows[100:]])


def build(deduplicated, folder, target=None, workers=1, **settings):
    job = Job(make_engine("local", workers))
    Shard().run(
        job,
        ShardSettings(**settings or {"samples": 25}),
        {"survivors": deduplicated},
        folder,
        build=BuildContext(dataset=DatasetInfo("d"), target=target),
    )
    return folder


@pytest.fixture(scope="module")
def dataset(deduplicated, tmp_path_factory):
    return build(deduplicated, tmp_path_factory.mktemp("whole") / "d")


def tree(folder: Path) -> dict[str, str]:
    """sha256 of every file of a dataset, the stage's own records aside."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    names = ((p, p.relative_to(folder).as_posix()) for p in files)
    return {n: hashlib.sha256(p.read_bytes()).hexdigest() for p, n in names if not n.startswith(".stage")}


def test_every_survivor_is_there_once_with_its_own_image(dataset):
    manifest = DatasetManifest.load(dataset)
    assert verify_dataset(dataset) == []
    seen = {}
    for entry in manifest.shards:
        rows = SAMPLES.read(dataset / entry.metadata.path).to_pylist()
        assert abs(entry.samples - 25) < 15
        with tarfile.open(dataset / entry.tar.path) as tar:
            for row in rows:
                image = tar.extractfile(f"{row['key']}.jpg").read()
                number = int(row["url"].rpartition("/")[2].removesuffix(".jpg"))
                assert image == picture(number, form="JPEG", size=(64 + number % 40, 80))
                assert (entry.split == "val") == (number % 5 == 0)
                seen[number] = row["key"]
    expected = {n for n in range(160) if (n if n < 100 else n - 100) % 4}
    assert set(seen) == expected
    assert len(set(seen.values())) == len(expected)
    assert manifest.funnel[-1].rows_out == sum(s.pairs for s in manifest.shards)
    assert [table.path for table in manifest.tables] == ["queries.parquet"]


def test_the_index_is_the_order_of_the_bytes(dataset):
    for entry in DatasetManifest.load(dataset).shards:
        with pa.memory_map(str(dataset / entry.index.path)) as source:
            index = SHARD_INDEX.conform(pa.ipc.open_file(source).read_all()).to_pylist()
        data = (dataset / entry.tar.path).read_bytes()
        starts = [row[f"{member}_offset"] for row in index for member in ("image", "text", "json")]
        assert starts == sorted(starts)
        for row in index:
            document = json.loads(data[row["json_offset"] :][: row["json_size"]])
            assert document["key"] == row["key"]
            assert data[row["text_offset"] :][: row["text_size"]].decode() == document["caption"]
            Image.open(io.BytesIO(data[row["image_offset"] :][: row["image_size"]])).verify()


def test_webdataset_reads_it_as_open_clip_does(dataset):
    entries = DatasetManifest.load(dataset).shards
    urls = [str(dataset / entry.tar.path) for entry in entries]
    samples = list(
        webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("jpg;png", "json", "txt", "__key__")
    )
    rows = [row for entry in entries for row in SAMPLES.read(dataset / entry.metadata.path).to_pylist()]
    assert [key for *_, key in samples] == [row["key"] for row in rows]
    assert [text for _, _, text, _ in samples] == [row["caption"] for row in rows]
    assert [document for _, document, _, _ in samples] == rows
    assert {image.mode for image, *_ in samples} == {"RGB"}
    # open_clip reads with a pipeline of stages and text first
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(urls),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb", handler=webdataset.warn_and_continue),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.to_tuple("image", "text"),
    )
    assert [text for _, text in pipeline] == [row["caption"] for row in rows]


@pytest.mark.parametrize("size", [20_000, "80kB", 10_000_000])
def test_shards_of_so_many_bytes(deduplicated, tmp_path, size):
    manifest = DatasetManifest.load(build(deduplicated, tmp_path / "d", bytes=size))
    wanted = {20_000: 20_000, "80kB": 80_000}.get(size)
    tars = [entry.tar.bytes for entry in manifest.shards]
    if wanted is None:
        assert len(tars) == 2  # one a split
    else:
        assert wanted * 0.85 < sum(tars) / len(tars) < wanted * 1.4  # each ends with up to 10 kB of nothing
    assert manifest.recipe["shard"]["samples"] is None


def test_a_size_is_named_in_one_way():
    assert ShardSettings().samples == 10_000
    assert ShardSettings(bytes="500MB").bytes == 500_000_000
    rest = {"seed": 0, "keys": "number", "format": "webdataset", "order": "shuffled"}
    assert ShardSettings(bytes="1MiB").model_dump(mode="json") == {"samples": None, "bytes": 1 << 20, **rest}
    for wrong in ({"samples": 5, "bytes": 5}, {"bytes": 0}, {"bytes": "much"}, {"samples": 0}):
        with pytest.raises(ValidationError):
            ShardSettings(**wrong)


def test_neither_workers_nor_the_seed_of_another_build_change_bytes(deduplicated, dataset, tmp_path):
    assert tree(build(deduplicated, tmp_path / "two", workers=2)) == tree(dataset)
    assert tree(build(deduplicated, tmp_path / "seed", samples=25, seed=1)) != tree(dataset)


def test_nothing_survived(tmp_path):
    folder = finished_dedup(tmp_path, [[]])
    with pytest.raises(OpenWITError, match="there is no image to write to shards"):
        build(folder, tmp_path / "d")


def test_an_empty_file_among_others(tmp_path):
    folder = finished_dedup(tmp_path, [[], [survivor(n, picture(n)) for n in range(9)]])
    assert verify_dataset(build(folder, tmp_path / "d")) == []


RUN = """
import os, resource, signal, sys
from pathlib import Path
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.pipeline.stages.shard import stage as shard
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.shard import Shard
from openwit.schemas.common.command import user_errors
limit = int(sys.argv[3])
if limit > 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
if limit < 0:
    written, write = [], shard.write_shard

    def write_and_die(*arguments, **keywords):
        written.append(write(*arguments, **keywords))
        if len(written) == -limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return written[-1]

    shard.write_shard = write_and_die
with user_errors("wit"):
    target = sys.argv[4] if len(sys.argv) > 4 else None
    job = Job(make_engine("local", 1))
    build = BuildContext(dataset=DatasetInfo("d"), target=target)
    Shard().run(job, ShardSettings(samples=25), {"survivors": Path(sys.argv[1])}, Path(sys.argv[2]), build=build)
"""


def script(*arguments, **options):
    return [sys.executable, "-c", RUN, *map(str, arguments)], {"cwd": Path(__file__).parents[4], **options}


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no file-size limits on this system")
@pytest.mark.parametrize("limit", [60_000, 150_000])
def test_a_full_disk_is_one_sentence_and_a_rerun_goes_on(deduplicated, dataset, tmp_path, limit):
    command, options = script(deduplicated, tmp_path / "d", limit, capture_output=True, text=True)
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("wit: no space is left on the disk of")
    assert not list(tmp_path.rglob(".partial-*"))
    assert not (tmp_path / "d" / "manifest.json").exists()
    build(deduplicated, tmp_path / "d")
    assert tree(tmp_path / "d") == tree(dataset)


def test_groups_runs_and_blocks_do_not_change_bytes(tmp_path, monkeypatch):
    """The spill of a group may be larger than memory, and a shard may read more files than it keeps open."""
    rows = [survivor(n, picture(n, size=(24, 24)), 1 + n % 2, "val" if n % 5 == 0 else "train") for n in range(90)]
    source = finished_dedup(tmp_path, [rows[first : first + 10] for first in range(0, 90, 10)])
    expected = tree(build(source, tmp_path / "d"))
    monkeypatch.setattr(spill, "_RUN_BYTES", 2_000)
    monkeypatch.setattr(routed, "_RUN_BYTES", 2_000)
    monkeypatch.setattr(routed, "_MERGE_ROWS", 5)
    monkeypatch.setattr(routed, "_MESSAGE_ROWS", 2)
    monkeypatch.setattr(write_shard, "_BLOCK_BYTES", 3_000)
    monkeypatch.setattr(spill, "_OPEN_FILES", 1)
    for groups in (1, 3, 256):
        monkeypatch.setattr(exchange, "MAX_GROUPS", groups)
        assert tree(build(source, tmp_path / f"d{groups}")) == expected


@pytest.mark.parametrize("suffix", spill.SUFFIXES)
@pytest.mark.parametrize("harm", ["a byte", "cut", "gone"])
def test_a_spill_that_was_damaged_after_a_kill_is_written_anew(deduplicated, dataset, tmp_path, suffix, harm):
    command, options = script(deduplicated, tmp_path / "d", -1)
    assert subprocess.run(command, check=False, **options).returncode == -signal.SIGKILL
    spilled = sorted((tmp_path / "d" / ".stage" / "spill").glob(f"*{suffix}"))[-1]
    data = bytearray(spilled.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "gone":
        spilled.unlink()
    else:
        spilled.write_bytes(data if harm == "a byte" else data[: len(data) // 2])
    build(deduplicated, tmp_path / "d")
    assert tree(tmp_path / "d") == tree(dataset)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("remote", [False, True])
def test_a_kill_changes_no_byte(deduplicated, dataset, tmp_path, remote, shards):
    """Killed when so many shards are written, the last neither brought anywhere nor recorded as done."""
    result = tmp_path / "d"
    folder, target = (tmp_path / "work", f"file://{result}") if remote else (result, None)
    command, options = script(deduplicated, folder, -shards, *([target] if remote else []))
    assert subprocess.run(command, check=False, **options).returncode == -signal.SIGKILL
    assert len(list(result.glob("*/*.tar"))) == (shards - 1 if remote else shards)
    assert not (result / "manifest.json").exists()
    build(deduplicated, folder, target)
    assert tree(result) == tree(dataset)
