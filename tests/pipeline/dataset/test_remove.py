"""`wit remove`: what goes, what stays as it was, kills at every step, and what is said."""

import gzip
import json
import shutil
import sys
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from support.pictures import picture
from support.survivors import HOSTS, finished_dedup, survivor

from openwit.pipeline.cli.main import main
from openwit.pipeline.dataset.store import LocalFolder, RemoteFolder, load_manifest, open_store
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.base import BuildContext, DatasetInfo
from openwit.pipeline.stages.shard import Shard
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.manifest import DatasetManifest, FileEntry
from openwit.schemas.tables.candidates import DROP_EXAMPLES
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES
from openwit.schemas.tables.queries import QUERY_COUNTS
from openwit.schemas.tables.samples import SAMPLES
from openwit.training.data.sharded import ShardedDataset


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A dataset of four shards with examples of duplicates and a card."""
    folder = tmp_path_factory.mktemp("remove")
    rows = [survivor(n, picture(n, size=(64, 64)), 1 + n % 3, "val" if n % 4 == 1 else "train") for n in range(60)]
    deduplicated = finished_dedup(folder, [rows], drop_every=60)
    kept = [
        {
            "reason": "near_duplicate", "url": f"http://copies.org/{n}", "text": "a copy", "image": picture(n),
            "kept_url": row["url"], "kept_text": "it", "kept_image": row["image"], "distance": 1,
        }
        for n, row in enumerate(rows[1:9])
    ]  # fmt: skip
    DUPLICATE_EXAMPLES.write(deduplicated / "duplicates.parquet", pa.Table.from_pylist(kept, DUPLICATE_EXAMPLES.arrow))
    dataset = folder / "dataset"
    Shard().run(
        Job(make_engine("local", 1)),
        ShardSettings(samples=16),
        {"survivors": deduplicated},
        dataset,
        build=BuildContext(dataset=DatasetInfo("d")),
    )
    shutil.rmtree(dataset / ".stage")
    return dataset


@pytest.fixture
def dataset(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "dataset"))


@pytest.fixture
def wit(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def rows_of(dataset):
    place = open_store(dataset)
    found = []
    for entry in load_manifest(place).shards:
        with place.local(entry.metadata.path) as path:
            found += SAMPLES.read(path).to_pylist()
    return found


def contents(dataset):
    """Bytes of every file of a dataset."""
    place = open_store(dataset)
    return {name: place.read(name) for name in place.sizes()}


def write_list(folder, *lines, name="list.txt"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def some(built, tmp_path):
    """A list of every kind, and the keys of what it names."""
    rows = rows_of(built)
    first = [row for row in rows if row["key"].startswith("00000")]
    others = [row for row in rows if HOSTS[1] not in row["url"]]
    named = [others[0]["url"], others[1]["sha256"], others[2]["phash"]]
    path = write_list(tmp_path, "# opted out", *named, "b.example.org  # its owner", "gone.example", "f" * 64)
    keys = {row["key"] for row in rows if HOSTS[1] in row["url"]} | {row["key"] for row in others[:3]}
    assert first
    return path, keys


def test_what_is_named_goes_and_nothing_else_changes(built, dataset, some, wit):
    names, keys = some
    before = rows_of(built)
    code, out, err = wit("remove", dataset, "--list", names)
    assert (code, err) == (0, "")
    assert f"Removed {len(keys)} samples" in out
    assert "1 by url, 1 by sha256, 1 by phash" in out
    assert "2 of 6 lines match nothing in the dataset:\n  line 6: gone.example\n  line 7: ffff" in out
    assert rows_of(dataset) == [row for row in before if row["key"] not in keys]
    assert verify_dataset(dataset) == []
    manifest = DatasetManifest.load(dataset)
    samples, pairs = manifest.funnel[-2:]
    assert (samples.stage, samples.rows_in, samples.rows_out) == ("removed", len(before), len(before) - len(keys))
    assert samples.reasons == {"domain": len(keys) - 3, "phash": 1, "sha256": 1, "url": 1}
    assert pairs.rows_in - pairs.rows_out == sum(len(row["texts"]) for row in before if row["key"] in keys)
    assert (manifest.removals[0].entries, manifest.removals[0].samples) == (6, len(keys))
    lost = {
        new.tar.path: old.samples - new.samples
        for old, new in zip(DatasetManifest.load(built).shards, manifest.shards, strict=True)
    }
    assert manifest.removals[0].shards == {path: count for path, count in lost.items() if count}
    for entry in manifest.shards:
        with tarfile.open(dataset / entry.tar.path) as tar, tarfile.open(built / entry.tar.path) as old:
            for name in tar.getnames():
                assert tar.extractfile(name).read() == old.extractfile(name).read()
            assert {n.split(".")[0] for n in old.getnames()} - {n.split(".")[0] for n in tar.getnames()} <= keys
    held = ShardedDataset(dataset, "train")
    assert sorted(held.key(n) for n in range(len(held))) == sorted(
        row["key"] for row in rows_of(dataset) if row["key"] in {held.key(n) for n in range(len(held))}
    )


def test_shards_that_hold_nothing_of_it_are_not_touched(built, dataset, tmp_path, wit):
    row = rows_of(built)[0]
    wit("remove", dataset, "--list", write_list(tmp_path, row["url"]))
    old, new = DatasetManifest.load(built), DatasetManifest.load(dataset)
    changed = [a.tar.path for a, b in zip(old.shards, new.shards, strict=True) if a != b]
    assert len(changed) == 1
    for entry in old.shards:
        same = (dataset / entry.tar.path).stat().st_mtime_ns == (built / entry.tar.path).stat().st_mtime_ns
        assert same == (entry.tar.path not in changed)


def test_no_copy_stays_behind(built, dataset, tmp_path, wit):
    """Neither in the examples of duplicates, nor in the counts, nor on the card."""
    dropped = [("fetch", "timeout", f"http://copies.org/{n}", "a copy", None) for n in range(8)]
    drops = [dict(zip(DROP_EXAMPLES.arrow.names, row, strict=True)) for row in dropped]
    DROP_EXAMPLES.write(dataset / "drops.parquet", pa.Table.from_pylist(drops, schema=DROP_EXAMPLES.arrow))
    assert wit("card", dataset)[0] == 0
    rows = [row for row in rows_of(dataset) if row["url"].endswith(("/1.jpg", "/2.jpg", "/3.jpg"))]
    assert len(rows) == 3
    images = [picture(int(row["url"][-5]), size=(64, 64)) for row in rows]
    names = write_list(tmp_path, *(row["url"] for row in rows), "http://copies.org/4")
    card = json.loads((dataset / "card.json").read_text())["made_of"]
    assert wit("remove", dataset, "--list", names)[0] == 0
    left = DUPLICATE_EXAMPLES.read(dataset / "duplicates.parquet")
    assert left.num_rows == 8 - 4
    examples = DROP_EXAMPLES.read(dataset / "drops.parquet")
    assert examples.num_rows == 8 - 1
    assert "http://copies.org/4" not in examples.column("url").to_pylist()
    assert not {row["url"] for row in rows} & set(left.column("kept_url").to_pylist())
    old, new = (QUERY_COUNTS.read(place / "queries.parquet") for place in (built, dataset))
    gone = [0, 0, 0]
    for row in rows:
        for ids in row["query_ids"]:
            for query in ids:
                gone[query] += 1
    assert [a - b for a, b in zip(old["kept"].to_pylist(), new["kept"].to_pylist(), strict=True)] == gone
    assert sum(gone) > 0
    assert old.drop_columns(["kept"]).equals(new.drop_columns(["kept"]))
    for data in contents(dataset).values():
        assert not any(image in data for image in images)
        assert not any(row["sha256"].encode() in data or f"{row['key']}.jpg".encode() in data for row in rows)
    renewed = json.loads((dataset / "card.json").read_text())["made_of"]
    assert renewed != card
    assert sorted(renewed) == sorted(card)
    assert "Nothing to do" in wit("card", dataset)[1]


def test_a_dry_run_changes_nothing(dataset, some, wit):
    names, keys = some
    before = contents(dataset)
    code, out, _ = wit("remove", dataset, "--list", names, "--dry-run")
    assert code == 0
    assert f"Would remove {len(keys)} samples" in out
    assert all(key in out for key in sorted(keys)[:15])
    assert contents(dataset) == before


def test_nothing_that_matches_is_no_error(dataset, tmp_path, wit):
    before = contents(dataset)
    code, out, _ = wit("remove", dataset, "--list", write_list(tmp_path, "nobody.example"))
    assert (code, "Nothing to remove" in out) == (0, True)
    assert contents(dataset) == before


def test_a_packed_list_twice_and_then_another(dataset, some, tmp_path, wit):
    names, keys = some
    packed = tmp_path / "list.gz"
    packed.write_bytes(gzip.compress(names.read_bytes()))
    wit("remove", dataset, "--list", packed)
    after = contents(dataset)
    assert "Nothing to remove" in wit("remove", dataset, "--list", names)[1]
    assert contents(dataset) == after
    row = rows_of(dataset)[0]
    assert wit("remove", dataset, "--list", write_list(tmp_path, row["url"], name="second"))[0] == 0
    manifest = DatasetManifest.load(dataset)
    assert [removal.samples for removal in manifest.removals] == [len(keys), 1]
    assert [s.rows_in for s in manifest.funnel if s.unit == "samples"][-1] == 59 - len(keys)
    assert verify_dataset(dataset) == []


def test_everything_may_go(dataset, tmp_path, wit):
    assert wit("remove", dataset, "--list", write_list(tmp_path, *HOSTS))[0] == 0
    assert rows_of(dataset) == []
    assert verify_dataset(dataset) == []
    assert all((dataset / s.tar.path).stat().st_size == 10_240 for s in DatasetManifest.load(dataset).shards)


class Killed(BaseException):
    """Nothing catches it on its way out."""


@pytest.fixture
def killer(monkeypatch):
    """Ends the process, as it were, before or after the n-th thing that is done to a dataset."""

    def arm(n, after):
        count = [0]
        for name in ("move_in", "write", "delete"):
            for kind in (LocalFolder, RemoteFolder):
                original = getattr(kind, name)

                def act(self, *arguments, original=original):
                    count[0] += 1
                    if count[0] == n and not after:
                        raise Killed
                    original(self, *arguments)
                    if count[0] == n:
                        raise Killed

                monkeypatch.setattr(kind, name, act)
        return count

    return arm


@pytest.mark.parametrize("remote", [False, True])
def test_killed_anywhere_the_same_list_completes_it(built, some, tmp_path, monkeypatch, killer, wit, remote):
    names, _ = some

    def fresh(number):
        if not remote:
            return str(shutil.copytree(built, tmp_path / f"d{number}"))
        url = f"memory://remove/d{number}"
        for name, data in contents(built).items():
            open_store(url).write(name, data)
        return url

    whole = fresh("whole")
    assert wit("remove", whole, "--list", names)[0] == 0
    expected = contents(whole)
    steps = 0
    for n in range(1, 60):
        victim = fresh(n)
        with monkeypatch.context():
            count = killer(n, after=n % 2 == 0)
            try:
                monkeypatch.setattr(sys, "argv", ["wit", "remove", victim, "--list", str(names)])
                main()
            except Killed:
                pass
            except SystemExit:
                break  # there were fewer steps than n
            finally:
                monkeypatch.undo()
        steps += 1
        assert count[0] == n
        other = write_list(tmp_path, "other.example", name="other")
        if ".removing.json" in open_store(victim).sizes():
            assert "complete it first, with its own list" in wit("remove", victim, "--list", other)[2]
            assert any("a removal was cut off" in problem for problem in verify_dataset(victim))
        assert wit("remove", victim, "--list", names)[0] == 0
        assert contents(victim) == expected
        assert verify_dataset(victim) == []
    assert steps > 15
    if remote:
        fsspec.filesystem("memory").rm("/remove", recursive=True)


def test_a_damaged_shard_is_not_given_a_new_sum(dataset, some, wit):
    names, _ = some
    tar = dataset / DatasetManifest.load(dataset).shards[0].tar.path
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(data)
    code, _, err = wit("remove", dataset, "--list", names)
    assert code == 2
    assert "does not match the manifest: verify the dataset" in err
    assert tar.read_bytes() == data


@pytest.mark.parametrize(
    ("lines", "message"), [(["a.org", "what is this"], "line 2, 'what is this', is neither"), (["#"], "is empty")]
)
def test_a_list_that_cannot_be_meant_is_one_sentence(dataset, tmp_path, wit, lines, message):
    before = contents(dataset)
    code, out, err = wit("remove", dataset, "--list", write_list(tmp_path, *lines))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert contents(dataset) == before
    assert "is not a dataset" in wit("remove", tmp_path, "--list", write_list(tmp_path, "a.org"))[2]


def test_verify_finds_what_is_off(dataset, wit):
    manifest = DatasetManifest.load(dataset)
    first, second, *_ = manifest.shards
    shutil.copyfile(dataset / first.tar.path, dataset / "train" / "00099.tar")
    (dataset / second.index.path).unlink()
    (dataset / "queries.parquet").write_bytes(b"x" * manifest.tables[0].bytes)
    code, out, _ = wit("verify", dataset)
    assert code == 1
    assert set(out.splitlines()) == {
        "train/00099.tar: not listed in the manifest",
        f"{second.index.path}: missing",
        "queries.parquet: sha256 differs from the manifest's, the bytes have changed",
    }


def test_verify_finds_a_wrong_count(dataset, wit):
    manifest = DatasetManifest.load(dataset)
    first, second = manifest.shards[:2]
    swapped = {"samples": first.samples + 1, "pairs": first.pairs + 2}
    # another shard's index, with its own sum in the manifest
    shutil.copyfile(dataset / second.index.path, dataset / first.index.path)
    swapped["index"] = FileEntry(**{**second.index.model_dump(), "path": first.index.path})
    manifest.model_copy(update={"shards": [first.model_copy(update=swapped), *manifest.shards[1:]]}).save(dataset)
    code, out, _ = wit("verify", dataset)
    assert code == 1
    assert out.splitlines() == [
        f"manifest.json: the shards hold {60:,} samples, the funnel ends with {59:,}",
        f"manifest.json: the shards hold {manifest.funnel[-1].rows_out + 2:,} pairs, the funnel ends with "
        f"{manifest.funnel[-1].rows_out:,}",
        f"{first.metadata.path}: {first.samples:,} rows, the manifest says {first.samples + 1:,}",
        f"{first.metadata.path}: {first.pairs:,} texts, the manifest says {first.pairs + 2:,}",
        f"{first.index.path}: its keys are not those of {first.metadata.path}",
    ]
