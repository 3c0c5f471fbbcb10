"""The build from end to end on tables that hold their images: kills, repeats, bad input."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from support.pictures import picture
from support.wiki_dump import write_dump

from openwit.pipeline.cli.main import main
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SAMPLES

WORDS = ["red kite", "grey heron", "wren", "crane fly", "oak", "quartz", "river bank", "old barn"]
WIT = [sys.executable, "-m", "openwit.pipeline.cli.main"]
STAGES = ("queries", "candidates", "select", "fetch", "dedup", "redraw", "shard", "card")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three tables of pictures, the last with copies of the first's, and a recipe."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(3):
        rows = []
        for n in range(40):
            serial = number * 40 + n
            # The last table repeats pictures of the first, re-encoded.
            shown, form = (n, "PNG") if number == 2 and n < 10 else (serial, "JPEG")
            texts = [f"A {WORDS[serial % 8]} in the field", f"photo {serial} of an {WORDS[(serial + 3) % 8]}"]
            split = "val" if serial % 6 == 0 else "train"
            rows.append({"image": picture(shown, form=form), "texts": texts, "split": split})
        rows.append({"image": b"not an image", "texts": ["a wren"], "split": "train"})
        rows.append({"image": picture(1000 + number), "texts": ["IMG_0042.jpg"], "split": "train"})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"birds-{number}.parquet", row_group_size=16)
    (folder / "queries.txt").write_text("\n".join(WORDS))
    dump = write_dump(folder, WORDS, titles=[word.title() for word in WORDS])
    recipe = {
        "name": "birds",
        "steps": [
            {
                "queries": {
                    "wikipedia": [str(dump)],
                    "tables": [str(folder / "queries.txt")],
                    "min_count": 4,
                    "bigrams": {"min_count": 2},
                }
            },
            {"candidates": {"inputs": [str(folder / "birds-*.parquet")], "filters": {"apply_to": "all"}}},
            {"select": {"cap": 25, "oversample": 1.4}},
            {"fetch": {"image": {"size": 64}, "chunk": 30}},
            {"dedup": {}},
            {"redraw": {}},
            {"shard": {"samples": 30}},
            {"card": {}},
        ],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def wit(arguments, capsys, monkeypatch):
    """Runs the command in this process; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def tree(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "build"
    done = subprocess.run([*WIT, "build", str(inputs / "recipe.yaml"), "--workdir", str(workdir)], **PIPED)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


PIPED = {"capture_output": True, "text": True, "check": False}


def test_what_a_build_leaves(undisturbed):
    workdir, printed = undisturbed
    dataset = workdir / "dataset"
    manifest = DatasetManifest.load(dataset)
    assert manifest.splits() == ["train", "val"]
    fetch = next(step for step in manifest.funnel if (step.stage, step.unit) == ("fetch", "images"))
    assert fetch.reasons == {"not_an_image": 3}
    candidates = next(step for step in manifest.funnel if step.stage == "candidates")
    assert candidates.rows_in == 3 * 82
    assert candidates.reasons["file_name"] == 3
    dedup = next(step for step in manifest.funnel if (step.stage, step.unit) == ("dedup", "images"))
    assert dedup.reasons["near_duplicate"] > 0
    redraw = next(step for step in manifest.funnel if (step.stage, step.unit) == ("redraw", "pairs"))
    assert redraw.reasons["not_drawn_again"] > 0
    pairs = [step for step in manifest.funnel if step.unit == "pairs"]
    assert [step.rows_in for step in pairs[1:]] == [step.rows_out for step in pairs[:-1]]
    assert "Built 'birds'" in printed
    assert "not_an_image" in printed
    for name in ("card.html", "card.json", "queries.parquet", "train/00000.idx.arrow", "train/00000_stats.json"):
        assert (dataset / name).stat().st_size > 0
    assert "near duplicate" in (dataset / "card.html").read_text()


def test_no_copy_of_a_held_out_picture_is_trained_on(undisturbed):
    dataset = undisturbed[0] / "dataset"
    manifest = DatasetManifest.load(dataset)
    hashes = {}
    for split in manifest.splits():
        tables = [SAMPLES.read(dataset / shard.metadata.path) for shard in manifest.shards_of(split)]
        hashes[split] = [int(h, 16) for h in pa.concat_tables(tables).column("phash").to_pylist()]
    assert len(hashes["val"]) > 5
    assert all((a ^ b).bit_count() > 4 for a in hashes["train"] for b in hashes["val"])


def test_webdataset_and_tarfile_read_the_shards(undisturbed):
    dataset = undisturbed[0] / "dataset"
    manifest = DatasetManifest.load(dataset)
    keys = []
    for shard in manifest.shards:
        path = dataset / shard.tar.path
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 3 * shard.samples
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("pil"))
        table = SAMPLES.read(dataset / shard.metadata.path)
        assert [s["__key__"] for s in samples] == table.column("key").to_pylist()
        assert [s["txt"] for s in samples] == table.column("caption").to_pylist()
        assert [s["json"]["texts"] for s in samples] == table.column("texts").to_pylist()
        assert [list(s["jpg"].size) for s in samples] == [[s["json"]["width"], s["json"]["height"]] for s in samples]
        keys += [s["__key__"] for s in samples]
    assert len(set(keys)) == len(keys) == sum(shard.samples for shard in manifest.shards)


def test_a_second_run_does_nothing_and_says_so(undisturbed, inputs, capsys, monkeypatch):
    workdir, _ = undisturbed
    before = times(workdir)
    code, out, _ = wit(["build", inputs / "recipe.yaml", "--workdir", workdir], capsys, monkeypatch)
    assert code == 0
    assert "Nothing to do" in out
    assert times(workdir) == before


def times(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written, the lock aside."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def folder_of(workdir: Path, stage: str) -> Path:
    return workdir / "dataset" if stage in ("shard", "card") else workdir / "stages" / stage


def kill_in(stage: str, recipe: Path, workdir: Path) -> None:
    """Starts a build and kills it in `stage`: a little after its begin, sooner where that is too late."""
    for delay in (0.15, 0.08, 0.04, 0.02, 0.0):
        if kill_after(delay, stage, recipe, workdir):
            return
        for undone in STAGES[STAGES.index(stage) :]:
            shutil.rmtree(folder_of(workdir, undone), ignore_errors=True)
    pytest.fail(f"{stage} ended before it could be killed")


def kill_after(delay: float, stage: str, recipe: Path, workdir: Path) -> bool:
    """Starts a build and kills it `delay` seconds after `stage` began; False when the stage ended before the kill."""
    folder = folder_of(workdir, stage)
    begun = folder / ("manifest.json" if stage == "card" else ".stage/claim.json")
    ended = folder / ("card.json" if stage == "card" else ".stage/manifest.json")
    process = subprocess.Popen(
        [*WIT, "build", str(recipe), "--workdir", str(workdir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not begun.exists():
            assert process.poll() is None, f"the build ended before {stage} began"
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return not ended.exists()


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_kill_in_every_stage_changes_no_byte(undisturbed, inputs, tmp_path):
    workdir = tmp_path / "killed"
    for stage in STAGES:
        kill_in(stage, inputs / "recipe.yaml", workdir)
    done = subprocess.run([*WIT, "build", str(inputs / "recipe.yaml"), "--workdir", str(workdir)], **PIPED)
    assert done.returncode == 0, done.stderr
    assert tree(workdir / "dataset") == tree(undisturbed[0] / "dataset")
    for stage in STAGES[:-2]:
        killed, whole = (tree(w / "stages" / stage) for w in (workdir, undisturbed[0]))
        assert killed == whole
    assert not list(workdir.rglob(".partial-*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "select.capp=3"], "unknown key 'select.capp'; did you mean 'cap'?"),
        (["--set", "select.cap=many"], "key 'select.cap': "),
        (["--set", "select.cap=0"], "key 'select.cap': "),
        (["--set", "candidates.inputs=[gone-*.parquet]"], "candidates.inputs: gone-*.parquet matches no file"),
        (["--set", "queries.tables=[gone.txt]"], "queries.tables: gone.txt does not exist"),
        (["--set", "queries.tables=[]", "--set", "queries.wikipedia=[]"], "name at least one source of queries"),
        (["--runner", "dask"], "'--runner': 'dask' is not one of 'local', 'ray', "),
        (["--workers", "0"], "wit build: invalid value for '--workers': "),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(inputs, tmp_path, capsys, monkeypatch, arguments, message):
    workdir = tmp_path / "w"
    code, out, err = wit(["build", inputs / "recipe.yaml", "--workdir", workdir, *arguments], capsys, monkeypatch)
    assert code == 2
    assert message in err
    assert err.strip().count("\n") == 0
    assert "Traceback" not in out + err
    assert not (workdir / "dataset").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("my.csv", "a table"),
        ("my.parquet", "a table"),
        ("my.jsonl.gz", "a table"),
        ("my.warc.gz", "a crawl archive"),
        ("00000.tar", "an archive of files"),
        ("folder", "a folder"),
    ],
)
def test_data_in_place_of_a_recipe_is_told_what_to_do(tmp_path, capsys, monkeypatch, name, what):
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_bytes(b"\xff\x00")
    code, out, err = wit(["build", tmp_path / name, "--workdir", tmp_path / "w"], capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert f"{name} is {what}, not a recipe: `wit init pairs` copies a recipe to edit" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("candidates.inputs=gone.parquet", "candidates.inputs: gone.parquet does not exist"),
        ("dedup.exclude=gone/", "gone"),
        ("fetch.blocklist=gone.txt", "gone.txt"),
        ("dedup.remove=gone.txt", "gone.txt"),
    ],
)
def test_missing_inputs_are_noticed_before_anything_runs(inputs, tmp_path, capsys, monkeypatch, setting, message):
    workdir = tmp_path / "w"
    arguments = ["build", inputs / "recipe.yaml", "--workdir", workdir, "--set", setting]
    code, _, err = wit(arguments, capsys, monkeypatch)
    assert (code, message in err) == (2, True), err
    assert not (workdir / "stages").exists()


def test_a_crawl_without_a_match_and_an_empty_crawl(inputs, tmp_path, capsys, monkeypatch):
    (tmp_path / "none.txt").write_text("albatross")
    arguments = ["build", inputs / "recipe.yaml", "--workdir", tmp_path / "w"]
    only = ["--set", f"queries.tables=[{tmp_path}/none.txt]", "--set", "queries.wikipedia=[]"]
    code, _, err = wit([*arguments, *only], capsys, monkeypatch)
    assert (code, "matches any of the 1 queries" in err) == (2, True)
    empty = pa.table({"image": pa.array([], pa.binary()), "text": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "empty.parquet")
    arguments[3] = tmp_path / "w2"
    code, _, err = wit([*arguments, "--set", f"candidates.inputs=[{tmp_path}/empty.parquet]"], capsys, monkeypatch)
    assert (code, "hold no usable (image, text) pair" in err) == (2, True)
    (tmp_path / "x.warc").write_bytes(b"no archive")
    arguments[3] = tmp_path / "w3"
    code, _, err = wit([*arguments, "--set", f"candidates.inputs=[{tmp_path}/x.warc]"], capsys, monkeypatch)
    assert (code, "left aside: 2 archive_damaged (the first: offset 0: " in err) == (2, True)


def test_another_recipes_folder_is_refused_and_replace_rebuilds(undisturbed, inputs, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "w"
    shutil.copytree(undisturbed[0], workdir)
    before = tree(workdir)
    arguments = ["build", inputs / "recipe.yaml", "--workdir", workdir, "--set", "select.cap=5"]
    code, _, err = wit(arguments, capsys, monkeypatch)
    assert code == 2
    assert "holds another recipe's build (select.cap was 25, now 5)" in err
    assert tree(workdir) == before
    code, out, _ = wit([*arguments, "--replace"], capsys, monkeypatch)
    assert code == 0
    assert out.count("done before") == 2  # queries and candidates are untouched by the change
    kept = next(s for s in DatasetManifest.load(workdir / "dataset").funnel if s.stage == "select")
    assert kept.reasons["not_drawn"] > 0


def test_verify_finds_a_flipped_bit_and_a_missing_shard(undisturbed, tmp_path, capsys, monkeypatch):
    dataset = tmp_path / "d"
    shutil.copytree(undisturbed[0] / "dataset", dataset)
    assert wit(["verify", dataset], capsys, monkeypatch)[0] == 0
    tar = dataset / "train" / "00000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    (dataset / "train" / "00001.parquet").unlink()
    code, out, _ = wit(["verify", dataset], capsys, monkeypatch)
    assert code == 1
    assert "train/00000.tar: sha256 differs" in out
    assert "train/00001.parquet: missing" in out


def test_two_builds_in_one_folder_do_not_meet(inputs, tmp_path, capsys, monkeypatch):
    from openwit.pipeline.build import locked

    workdir = tmp_path / "w"
    workdir.mkdir()
    with locked(workdir):
        code, _, err = wit(["build", inputs / "recipe.yaml", "--workdir", workdir], capsys, monkeypatch)
    assert (code, "another build is running" in err) == (2, True)


def test_a_folder_that_cannot_be_written_is_said(inputs, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    code, _, err = wit(["build", inputs / "recipe.yaml", "--workdir", tmp_path / "file"], capsys, monkeypatch)
    assert (code, "is a file" in err) == (2, True)
    assert os.listdir(tmp_path) == ["file"]


def test_a_build_lands_at_a_url_with_the_bytes_of_a_local_one(undisturbed, inputs, tmp_path, capsys, monkeypatch):
    store = tmp_path / "store" / "birds"
    command = ["build", inputs / "recipe.yaml", "--workdir", tmp_path / "work", "--dataset", f"file://{store}"]
    code, out, err = wit(command, capsys, monkeypatch)
    assert code == 0, err
    assert f"file://{store}" in out
    local = {name: sha for name, sha in tree(undisturbed[0] / "dataset").items() if not name.startswith(".")}
    assert tree(store) == local
    assert not list((tmp_path / "work").rglob("*.tar"))
    assert wit(["verify", f"file://{store}"], capsys, monkeypatch)[0] == 0
    code, out, _ = wit(command, capsys, monkeypatch)
    assert (code, "Nothing to do" in out) == (0, True)
