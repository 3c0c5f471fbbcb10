"""Commands on finished datasets and on tars: counts add up, lineage stays, pictures are the same bytes."""

import io
import json
import shutil
import tarfile
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.small_build import make_recipe, run
from support.tars import write_tar

from openwit.pipeline.cli.report import print_step
from openwit.pipeline.dataset.places import work_folder
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.existing import Wanted, open_existing, read_changes, steps_of
from openwit.pipeline.existing_run import report_overlap, run_existing
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.rewriting import copying
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.overlap import OVERLAP
from openwit.schemas.tables.queries import QUERY_COUNTS

pytestmark = pytest.mark.slow
LISTS = ("texts", "pair_ids", "query_ids", "drawn_by", "priorities", "text_sources", "archives", "record_offsets")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset of 21 samples in two splits, drawn by queries."""
    folder = tmp_path_factory.mktemp("birds")
    run(make_recipe(folder), folder / "out")
    return folder / "out" / "dataset"


def do(inputs, out, command="reshard", **wanted):
    return run_existing([str(path) for path in inputs], Wanted(command, **wanted), out, Job(SerialEngine()))


def samples(dataset):
    """Rows of all shards with their split and the bytes of their members."""
    found = []
    for shard in DatasetManifest.load(dataset).shards:
        with tarfile.open(dataset / shard.tar.path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
        for row in pq.read_table(dataset / shard.metadata.path).to_pylist():
            image, document = members[f"{row['key']}.jpg"], members[f"{row['key']}.json"]
            assert members[f"{row['key']}.txt"].decode() == row["caption"]
            found.append({**row, "split": shard.split, "image": image, "document": json.loads(document)})
    return found


def reencoded(image):
    out = io.BytesIO()
    Image.open(io.BytesIO(image)).save(out, "JPEG", quality=90)
    return out.getvalue()


def lines(dataset, stage):
    return {line.unit: line for line in DatasetManifest.load(dataset).funnel if line.stage == stage}


def check_funnel(dataset):
    """Every line of pairs goes on where the one before ended."""
    pairs = [line for line in DatasetManifest.load(dataset).funnel if line.unit == "pairs"]
    assert all(one.rows_out == other.rows_in for one, other in pairwise(pairs))
    assert verify_dataset(dataset) == []


def test_resharding_keeps_every_sample_as_it_is(dataset, tmp_path):
    before = samples(dataset)
    do([dataset], tmp_path / "out", files={"samples": 4})
    after = samples(tmp_path / "out")
    assert after == before
    manifest = DatasetManifest.load(tmp_path / "out")
    assert [shard.samples for shard in manifest.shards_of("train")] == [4, 4, 4, 4, 3]
    assert manifest.recipe["select"]["cap"] == 6
    counts = [QUERY_COUNTS.read(place / "queries.parquet") for place in (dataset, tmp_path / "out")]
    assert counts[0].drop_columns("kept").equals(counts[1].drop_columns("kept"))
    assert sum(counts[1].column("kept").to_pylist()) == sum(len(ids) for row in after for ids in row["query_ids"])
    check_funnel(tmp_path / "out")
    kept, _ = explain(tmp_path / "out", after[0]["key"])
    assert kept[0].texts[0].drawn_by


def test_a_shuffle_is_that_of_a_build_and_runs_give_the_same_bytes(dataset, tmp_path):
    files = {"samples": 8, "order": "shuffled", "keys": "number"}
    for name in ("one", "two"):
        do([dataset], tmp_path / name, files=files, command="reshard")
    names = [shard.tar for shard in DatasetManifest.load(tmp_path / "one").shards]
    assert names == [shard.tar for shard in DatasetManifest.load(tmp_path / "two").shards]
    assert [row["uid"] for row in samples(tmp_path / "one")] == [row["uid"] for row in samples(dataset)]


@pytest.mark.parametrize("form", ["files", "parquet"])
def test_each_layout_is_read_and_written(dataset, tmp_path, form):
    do([dataset], tmp_path / "one", files={"samples": 8, "format": form})
    assert DatasetManifest.load(tmp_path / "one").formats() == [form]
    assert verify_dataset(tmp_path / "one") == []
    do([tmp_path / "one"], tmp_path / "same", files={"samples": 100})
    assert DatasetManifest.load(tmp_path / "same").formats() == [form]
    do([tmp_path / "one"], tmp_path / "back", files={"format": "webdataset"})
    assert samples(tmp_path / "back") == samples(dataset)


@pytest.mark.parametrize("form", ["npy", "datacomp", "parquet", "txt"])
def test_a_list_of_uids(dataset, tmp_path, form):
    uids = [row["uid"] for row in samples(dataset)][3:9]
    listed = [*uids, "0" * 32]
    path = tmp_path / f"uids.{'npy' if form == 'datacomp' else form}"
    if form == "npy":
        np.save(path, np.array(listed))
    elif form == "datacomp":
        pairs = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in listed]
        np.save(path, np.sort(np.array(pairs, np.dtype("u8,u8"))))
    elif form == "parquet":
        pq.write_table(pa.table({"uid": listed, "score": [0.5] * 7}), path)
    else:
        path.write_text("\n".join(listed))
    done = do([dataset], tmp_path / "out", keep=str(path))
    assert [row["uid"] for row in samples(tmp_path / "out")] == uids
    assert lines(tmp_path / "out", "reshard")["samples"].reasons == {"not_listed": 15}
    assert done.build.steps[0].manifest.extra["listed"] == {"uids": 7, "found": 6}
    gone = next(row for row in samples(dataset) if row["uid"] not in uids)
    kept, dropped = explain(tmp_path / "out", gone["pair_ids"][0])
    assert not kept
    assert [drop.reason for drop in dropped] == ["not_listed"]


def test_conditions(dataset, tmp_path):
    where = ["caption ~ kite|heron", "split in train", "width >= 48", "license is null", "text_source == table"]
    do([dataset], tmp_path / "out", command="filter", where=where)
    wanted = [row["uid"] for row in samples(dataset) if row["split"] == "train" and "wren" not in row["caption"]]
    wanted = [row["uid"] for row in samples(dataset) if row["uid"] in wanted and "oak" not in row["caption"]]
    assert [row["uid"] for row in samples(tmp_path / "out")] == wanted
    check_funnel(tmp_path / "out")
    # What was filtered once is filtered again: both steps are in the recipe.
    do([tmp_path / "out"], tmp_path / "again", command="filter", where=["caption ~ kite"])
    assert {"filter", "copy", "filter-2", "copy-2"} <= set(DatasetManifest.load(tmp_path / "again").recipe)
    check_funnel(tmp_path / "again")


def test_a_text_filter_takes_texts_and_looks_at_no_picture(dataset, tmp_path):
    filters = {"filters": {"apply_to": "all", "min_words": 6}}
    done = do([dataset], tmp_path / "out", command="filter", candidates=filters)
    assert [step.name for step in done.build.steps] == ["judged-candidates", "filter", "copy"]
    found = samples(tmp_path / "out")
    assert found
    assert all(len(text.split()) > 5 for row in found for text in row["texts"])
    assert all(len({len(row[name]) for name in LISTS}) == 1 for row in found)
    line = lines(tmp_path / "out", "filter")["pairs"]
    assert line.rows_in - line.rows_out == line.reasons["text_dropped"] + line.reasons["too_short"]
    check_funnel(tmp_path / "out")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A dataset with a column of its own; its last sample is held out."""
    folder = tmp_path_factory.mktemp("other")
    rows = [{"image": picture(n), "text": f"a stork {n}", "author": f"A. {n}"} for n in range(30, 34)]
    rows += [{"image": picture(0, (64, 56)), "text": "a red kite of the other set", "author": "B", "split": "val"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "storks.parquet")
    do([folder / "storks.parquet"], folder / "dataset", command="reshard", changes={"shard": {"samples": 3}})
    return folder / "dataset"


def test_merging_joins_columns_and_keeps_what_two_have_once(dataset, other, tmp_path):
    with pytest.raises(DataError, match="keys are those of several"):
        do([dataset, other], tmp_path / "clash", command="merge", files={"keys": "input"})
    do([dataset, other], tmp_path / "out", command="merge")
    found = samples(tmp_path / "out")
    check_funnel(tmp_path / "out")
    assert len({row["key"] for row in found}) == len(found) == 26
    assert {row["author"] for row in found} == {None, "B", "A. 30", "A. 31", "A. 32", "A. 33"}
    shutil.copytree(dataset, tmp_path / "copy")
    do([tmp_path / "copy", dataset, other], tmp_path / "twice", command="merge", without=["author"])
    assert lines(tmp_path / "twice", "merge")["samples"].reasons == {"same_bytes": 21}
    assert "author" not in samples(tmp_path / "twice")[0]
    do([tmp_path / "copy", dataset], tmp_path / "both", command="merge", duplicates="keep")
    assert len(samples(tmp_path / "both")) == 42


def test_a_sample_that_one_input_holds_out_is_not_trained_on(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        rows = [{"image": picture(n), "text": f"a wren {n}", "split": split if n else "train"} for n in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        do([tmp_path / f"{name}.parquet"], tmp_path / name)
    do([tmp_path / "a", tmp_path / "b"], tmp_path / "out", command="merge")
    assert lines(tmp_path / "out", "merge")["samples"].reasons == {"copy_of_held_out": 2, "same_bytes": 1}
    assert sorted(row["split"] for row in samples(tmp_path / "out")) == ["train", "val", "val"]


def test_duplicates_are_found_by_their_pictures_and_the_rest_copied(dataset, tmp_path):
    rows = samples(dataset)
    again = [{"image": reencoded(row["image"]), "text": f"again {n}"} for n, row in enumerate(rows[3:6])]
    pq.write_table(pa.Table.from_pylist(again), tmp_path / "more.parquet")
    do([tmp_path / "more.parquet"], tmp_path / "more")
    do([dataset, tmp_path / "more"], tmp_path / "out", command="dedup", dedup={})
    reasons = lines(tmp_path / "out", "dedup-2")["samples"].reasons
    assert sum(reasons.values()) == 3
    assert set(reasons) <= {"near_duplicate", "duplicate_pixels", "copy_of_held_out"}
    images = {row["image"] for row in [*rows, *samples(tmp_path / "more")]}
    assert {row["image"] for row in samples(tmp_path / "out")} < images
    check_funnel(tmp_path / "out")


def test_a_report_names_each_evaluation_image(dataset, tmp_path):
    # Picture 4 is there twice: both are overlap, though the dataset's image is nearest to one.
    rows = [{"image": picture(n, (64, 56), "PNG"), "text": ""} for n in (4, 4, 90)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "eval.parquet")
    wanted = Wanted("decontaminate", dedup={"duplicates": "keep", "exclude": [str(tmp_path / "eval.parquet")]})
    job = Job(SerialEngine())
    done = report_overlap([str(dataset)], wanted, tmp_path / "out", None, job)
    assert done.counts == {"evaluation_images": 3, "overlap": 2, "samples": 1, "pairs": 2}
    table = OVERLAP.read(tmp_path / "out.overlap.parquet").to_pylist()
    assert [row["sample_uid"] is None for row in table] == [False, False, True]
    mine = next(row for row in samples(dataset) if row["uid"] == table[0]["sample_uid"])
    assert (mine["key"], mine["url"], mine["caption"]) == tuple(
        table[0][f"sample_{name}"] for name in ("key", "url", "text")
    )
    assert mine["uid"] not in {row["uid"] for row in samples(tmp_path / "out")}
    assert lines(tmp_path / "out", "decontaminate")["samples"].reasons == {"evaluation_image": 1}
    only = report_overlap([str(dataset)], wanted, None, tmp_path / "report.parquet", job)
    assert only.counts == done.counts
    assert (tmp_path / "report.parquet").read_bytes() == (tmp_path / "out.overlap.parquet").read_bytes()


def test_evaluation_images_that_cannot_be_read_are_in_the_funnel_and_said(dataset, tmp_path):
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "right.png").write_bytes(picture(4, (64, 56), "PNG"))
    (evaluation / "broken.jpg").write_bytes(b"no image")
    wanted = Wanted("decontaminate", dedup={"duplicates": "keep", "exclude": [str(evaluation)]})
    done = report_overlap([str(dataset)], wanted, tmp_path / "out", None, Job(SerialEngine()))
    line = lines(tmp_path / "out", "decontaminate")["evaluation images"]
    assert (line.rows_in, line.rows_out, line.reasons) == (2, 1, {"not_an_image": 1})
    check_funnel(tmp_path / "out")
    console = Console(file=io.StringIO())
    for step in done.build.steps:
        print_step(console, step)
    assert console.file.getvalue().count("Not read of the evaluation sets: not_an_image 1.") == 1


def test_tars_go_through_the_chain(tmp_path):
    tar = tmp_path / "in" / "00000.tar"
    tar.parent.mkdir()
    members = {}
    for n in range(4):
        members[f"s{n}.jpg"], members[f"s{n}.txt"] = picture(n // 2), f"a wren {n}".encode()
    write_tar(tar, members.items())
    done = do([tar.parent / "*.tar"], tmp_path / "out", command="dedup", dedup={})
    assert done.existing.sources is None
    assert lines(tmp_path / "out", "dedup")["images"].reasons == {"duplicate_bytes": 2}
    do([tar], tmp_path / "kept", command="filter", where=["caption ~ 1$"], files={"keys": "input"})
    assert [row["key"] for row in samples(tmp_path / "kept")] == ["s1"]
    assert verify_dataset(tmp_path / "kept") == []


@pytest.mark.parametrize("command", ["dedup", "filter"])
def test_pictures_of_tars_keep_their_bytes(tmp_path, command):
    exif = Image.Exif()
    exif[0x010F] = "Kestrel"
    pictures = {
        "a.jpg": picture(1, (300, 40), exif=exif),
        "b.png": picture(2, form="PNG"),
        "c.webp": picture(3, form="WEBP"),
        "d.jpg": picture(4, (20, 20)),
    }
    texts = {f"{name.partition('.')[0]}.txt": b"a wren" for name in pictures}
    write_tar(tmp_path / "in.tar", sorted({**pictures, **texts}.items()))
    wanted = {"dedup": {}} if command == "dedup" else {"where": ["caption ~ wren"]}
    do([tmp_path / "in.tar"], tmp_path / "out", command=command, files={"keys": "input"}, **wanted)
    found = {}
    for shard in DatasetManifest.load(tmp_path / "out").shards:
        with tarfile.open(tmp_path / "out" / shard.tar.path) as tar:
            found |= {member.name: sha256(tar.extractfile(member).read()).digest() for member in tar}
    stored = {name: digest for name, digest in found.items() if not name.endswith((".txt", ".json"))}
    assert stored == {name: sha256(body).digest() for name, body in pictures.items()}


def test_a_killed_run_goes_on(dataset, tmp_path, monkeypatch):
    copy, calls = copying.CopyShard.run, []

    def cut(self, task, folder, stats):
        calls.append(task.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return copy(self, task, folder, stats)

    monkeypatch.setattr(copying.CopyShard, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        do([dataset], tmp_path / "out", files={"samples": 4})
    monkeypatch.undo()
    with pytest.raises(RecipeError, match="another recipe"):
        do([dataset], tmp_path / "out", files={"samples": 5})
    done = do([dataset], tmp_path / "out", files={"samples": 4})
    assert done.build.executed
    assert samples(tmp_path / "out") == samples(dataset)
    assert not do([dataset], tmp_path / "out", files={"samples": 4}).build.executed
    check_funnel(tmp_path / "out")


def test_bad_input_is_one_sentence(dataset, other, tmp_path):
    out = tmp_path / "out"
    for wanted, sentence in (
        ({"where": ["widht > 3"]}, "did you mean 'width'"),
        ({"where": ["width > wide"]}, "with which > 'wide' does not go"),
        ({"where": ["texts == a"]}, "does not go"),
        ({"where": ["caption ~ ("]}, "does not go"),
        ({"where": ["width"]}, "is not a condition"),
        ({"keep": str(tmp_path / "none.npy")}, "cannot be read"),
        ({"without": ["author"]}, "no input has this column"),
        ({"without": ["url"]}, "only kept ones can be left out"),
        ({"changes": {"queries": {}}}, "no step has this name"),
    ):
        with pytest.raises((RecipeError, DataError), match=sentence):
            do([dataset], out, command="filter", **wanted)
    with pytest.raises(DataError, match="no sample of"):
        do([dataset], out, command="filter", where=["width > 9999"])
    with pytest.raises(StorageError, match="overlap"):
        do([dataset], dataset / "out")
    with pytest.raises(RecipeError, match="named twice"):
        do([dataset, f"{dataset}/"], out, command="merge")
    with pytest.raises(StorageError, match="not empty"):
        do([dataset], other.parent)
    with pytest.raises(RecipeError, match="give one of"):
        read_changes(["max_distance=3"])
    with pytest.raises(RecipeError, match="at least one input"):
        open_existing([])


def test_damage_is_named(dataset, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    tar = broken / "train" / "00000.tar"
    tar.write_bytes(b"\0" * tar.stat().st_size)
    with pytest.raises(DataError, match="holds no picture at byte"):
        do([broken], tmp_path / "out")
    (broken / "manifest.json").write_text('{"shards": [], "funnel": 3}')
    with pytest.raises(DataError, match="is not a manifest"):
        open_existing([str(broken)])
    assert work_folder(tmp_path / "out").name == "out.work"
    assert len(steps_of(open_existing([str(dataset)]), Wanted("reshard"))) == 2
