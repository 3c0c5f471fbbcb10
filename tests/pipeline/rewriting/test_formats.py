"""Commands on datasets of ours in each layout, with images of each format: what is kept is the same sample."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.small_build import run

import openwit
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.existing import Wanted
from openwit.pipeline.existing_run import report_overlap, run_existing
from openwit.pipeline.recipe import Recipe
from openwit.schemas.manifest import DatasetManifest

pytestmark = pytest.mark.slow
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
LAYOUTS = ["webdataset", "files", "parquet"]
IMAGES = {"png": {"format": "png"}, "bytes as served": {"keep_bytes": True, "mode": "no"}}
NOTES = ("key", "uid", "texts", "score", "author", "archives", "record_offsets", "format", "sha256", "width")


FILTERS = """
def no_heron(text, context):
    return "heron" not in text

def narrow(image, context):
    return image.width <= 80
"""


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module", params=IMAGES)
def dataset(request, layout, tmp_path_factory):
    """A dataset of 18 samples in two splits with columns, uids and keys of its table; four look like others."""
    folder = tmp_path_factory.mktemp(layout)
    rows = [
        {
            "image": picture(n % 14, (72 + n % 14, 64), FORMATS[n % 6]),
            "text": f"a {'wren' if n % 3 else 'heron'} {n}",
            "uid": f"u-{n:03d}",
            "key": f"k{n:03d}",
            "score": n / 4,
            "author": f"Ada {n}",
            "split": "val" if n % 6 == 1 else "train",
        }
        for n in range(18)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    steps = [
        {"candidates": {"inputs": [str(folder / "t.parquet")], "columns": {"keep": "all", "key": "key"}}},
        {"fetch": {"image": {"size": 64, **IMAGES[request.param]}}},
        {"dedup": {"duplicates": "keep"}},
        {"shard": {"samples": 5, "format": layout, "keys": "input", "order": "input"}},
    ]
    run(Recipe.parse({"name": "pool", "steps": steps}, "recipe"), folder / "out")
    return folder / "out" / "dataset"


def samples(dataset):
    """Notes of each sample by uid, with its split and the checksum of its image as it is read."""
    manifest, found = DatasetManifest.load(dataset), {}
    for split in manifest.splits():
        opened = openwit.open_dataset(dataset, split=split)
        bodies = {}
        for number in range(len(opened)):
            sample = opened.sample(number)
            bodies[sample.key] = hashlib.sha256(sample.image).hexdigest()
        for shard in manifest.shards_of(split):
            for row in pq.read_table(dataset / shard.metadata.path).to_pylist():
                found[row["uid"]] = {
                    **{name: row[name] for name in NOTES},
                    "split": split,
                    "image": bodies[row["key"]],
                }
    return found


def evaluation(folder):
    rows = [{"image": picture(n, (64, 56), "PNG"), "text": ""} for n in (5, 90)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "eval.parquet")
    return str(folder / "eval.parquet")


@pytest.mark.parametrize("command", ["dedup", "decontaminate", "text filter", "image filter", "where"])
def test_what_a_command_keeps_is_the_same_sample(dataset, layout, tmp_path, monkeypatch, command):
    before = samples(dataset)
    assert len(before) == 18
    if command == "decontaminate":
        wanted = Wanted(command, dedup={"duplicates": "keep", "exclude": [evaluation(tmp_path)]})
        done = report_overlap([str(dataset)], wanted, tmp_path / "out", None, Job(SerialEngine()))
        assert done.counts == {"evaluation_images": 2, "overlap": 1, "samples": 1, "pairs": 1}
        report = pq.read_table(tmp_path / "out.overlap.parquet").to_pylist()
        assert [row["sample_uid"] for row in report] == ["u-005", None]
        gone = {"u-005"}
    else:
        if command == "dedup":
            wanted, gone = Wanted(command, dedup={}), None
        elif command == "text filter":
            wanted = Wanted("filter", candidates={"filters": {"apply_to": "all", "custom": ["seen.no_heron"]}})
            gone = {f"u-{n:03d}" for n in range(0, 18, 3)}
        elif command == "image filter":
            wanted, gone = Wanted("filter", image={"filters": ["seen.narrow"]}), None
        else:
            wanted, gone = Wanted("filter", where=["score >= 1"]), {f"u-{n:03d}" for n in range(4)}
        (tmp_path / "seen.py").write_text(FILTERS)
        monkeypatch.syspath_prepend(tmp_path)
        run_existing([str(dataset)], wanted, tmp_path / "out", Job(SerialEngine()))
    assert verify_dataset(tmp_path / "out") == []
    assert DatasetManifest.load(tmp_path / "out").formats() == [layout]
    after = samples(tmp_path / "out")
    if command == "dedup":
        gone = before.keys() - after.keys()
        assert gone
        assert gone <= {f"u-{n:03d}" for n in (0, 1, 2, 3, 14, 15, 16, 17)}
    if command == "image filter":
        gone = {uid for uid, sample in before.items() if sample["width"] > 80}
    assert after == {uid: sample for uid, sample in before.items() if uid not in gone}
