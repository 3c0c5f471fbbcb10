import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.locked_build import CAP, make_locked_build, make_web
from support.pictures import picture
from support.serial_engine import SerialEngine

from openwit.pipeline.cli.main import main
from openwit.pipeline.common.urls import url_hashes
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.rehydration.lock_dataset import lock_dataset
from openwit.pipeline.rehydration.lockfile import load_lock
from openwit.pipeline.rehydration.run import Rehydration
from openwit.pipeline.stages import stage_named
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.select.dead import Dead, read_dead, write_dead
from openwit.pipeline.stages.select.hash_uniform import pair_hashes
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.candidates import SELECTED
from openwit.schemas.tables.locks import REHYDRATED
from openwit.schemas.tables.samples import SAMPLES


@pytest.fixture(scope="module", params=[1.0, pytest.param(1.5, marks=pytest.mark.slow)])
def built(request, tmp_path_factory):
    """A locked build, with and without a surplus, whose server lost, altered and withdrew some images."""
    folder = tmp_path_factory.mktemp("locked")
    web = make_web()
    web.statuses["/7.jpg"] = 404  # lost by the build itself
    make_locked_build(folder, web, **({"oversample": request.param} if request.param > 1 else {}))
    lock_dataset(folder / "out" / "dataset", folder / "lock.parquet")
    paths = sorted(
        "/" + url.rpartition("/")[2] for url in pq.read_table(folder / "lock.parquet").column("url").to_pylist()
    )
    web.statuses.update(dict.fromkeys(paths[:3], 404))
    web.bodies.update({path: again(int(path[1:-4])) for path in paths[3:5]})
    web.bodies.update({path: picture(900 + n) for n, path in enumerate(paths[5:7])})
    web.headers[paths[7]] = {"X-Robots-Tag": "noai"}
    yield folder, web
    web.stop()


def again(number):
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(number))).save(out, "PNG")
    return out.getvalue()


def rehydrate(folder, to, **keywords):
    return Rehydration(
        load_lock(folder / "lock.parquet"), to / "again", to / "work", Job(SerialEngine()), **keywords
    ).run()


def pairs_of(dataset):
    shards = DatasetManifest.load(dataset).shards
    tables = [SAMPLES.read(dataset / shard.metadata.path) for shard in shards]
    return {pair for table in tables for ids in table.column("pair_ids").to_pylist() for pair in ids}


EXPECTED = {"changed": 2, "gone": 3, "opted_out": 1, "reencoded": 2}


def test_every_sample_of_a_lock_is_told(built, tmp_path):
    folder, _ = built
    done = rehydrate(folder, tmp_path)
    locked = load_lock(folder / "lock.parquet").notes.samples
    assert done.statuses == {**EXPECTED, "same": locked - 8}
    assert done.samples == locked - 6
    assert verify_dataset(tmp_path / "again") == []
    told = REHYDRATED.read(tmp_path / "again" / "rehydrated.parquet").to_pylist()
    assert [row["uid"] for row in told] == pq.read_table(folder / "lock.parquet").column("uid").to_pylist()
    assert {row["detail"] for row in told if row["status"] == "gone"} == {"http_not_found: HTTP 404"} or all(
        "http_not_found" in row["detail"] for row in told if row["status"] == "gone"
    )
    manifest = DatasetManifest.load(tmp_path / "again")
    [line] = [step for step in manifest.funnel if step.stage == "rehydrate"]
    assert line.reasons == {"changed_picture": 2, "gone": 3, "opted_out": 1}
    assert manifest.notes["select"]["cap"] == CAP
    assert pairs_of(tmp_path / "again") < pairs_of(folder / "out" / "dataset")
    before = (tmp_path / "again" / "manifest.json").read_bytes()
    rehydrate(folder, tmp_path)  # resumes: nothing is left to do
    assert (tmp_path / "again" / "manifest.json").read_bytes() == before


def test_refilling_draws_what_a_selection_from_the_living_would(built, tmp_path):
    folder, web = built
    # More die: whoever refills may meet dead candidates, and must go on.
    rest = {f"/{n}.jpg" for n in range(20, 60)} - {
        "/" + u.rpartition("/")[2] for u in pq.read_table(folder / "lock.parquet").column("url").to_pylist()
    }
    extra = sorted(rest)[::2]
    web.statuses.update(dict.fromkeys(extra, 404))
    done = rehydrate(folder, tmp_path, candidates=str(folder / "out"))
    for path in extra:
        del web.statuses[path]
    assert done.statuses["same"] == load_lock(folder / "lock.parquet").notes.samples - 8
    [line] = [s for s in DatasetManifest.load(tmp_path / "again").funnel if s.stage == "refill"]
    assert (line.rows_in, line.rows_out) == (done.asked, done.refilled)
    assert set(line.reasons) <= {"http_not_found"}
    assert verify_dataset(tmp_path / "again") == []
    lists = sorted((tmp_path / "work" / "lists").glob("*-dead.parquet"), key=lambda path: int(path.name.split("-")[1]))
    assert pairs_of(tmp_path / "again") == drawn_from_the_living(folder, tmp_path, read_dead(str(lists[-1])))
    kept = pairs_of(tmp_path / "again") & pairs_of(folder / "out" / "dataset")
    assert len(kept) > 0


def drawn_from_the_living(folder, tmp_path, dead):
    """The pairs that `select` draws from a table of the candidates that are not dead."""
    job, names = Job(SerialEngine()), ("url", "text")
    [path] = (folder / "out" / "stages" / "candidates" / "candidates").glob("*.parquet")
    pool = pq.read_table(path)
    mask = dead.mask(url_hashes(pool.column("url").to_pylist()), pair_hashes(pool.column("pair_id").combine_chunks()))
    pq.write_table(pool.filter(pa.array(~mask)).select(names), tmp_path / "living.parquet")
    stage_named("candidates").run(
        job, CandidateSettings(inputs=[str(tmp_path / "living.parquet")]), {}, tmp_path / "living"
    )
    settings = SelectSettings(cap=CAP, seed=3)
    inputs = {"candidates": tmp_path / "living", "queries": folder / "out" / "stages" / "queries"}
    stage_named("select").run(job, settings, inputs, tmp_path / "drawn")
    tables = [SELECTED.read(path) for path in (tmp_path / "drawn" / "selected").glob("*.parquet")]
    assert np.all([table.num_rows for table in tables])
    return {pair.hex() for table in tables for pair in table.column("pair_id").to_pylist()}


def test_rounds_that_are_used_up_leave_pairs_untried_and_more_refill_them(built, tmp_path):
    folder, _ = built
    short = rehydrate(folder, tmp_path, candidates=str(folder / "out"), rounds=0)
    [line] = [s for s in DatasetManifest.load(tmp_path / "again").funnel if s.stage == "refill"]
    assert line.reasons == {"not_tried": short.untried}
    assert (line.rows_in, line.rows_out) == (short.untried, 0)
    assert short.untried
    with pytest.raises(OpenWITError, match="--replace"):
        rehydrate(folder, tmp_path, candidates=str(folder / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "fetch").rglob("*.parquet")}
    job = Job(SerialEngine(), replace=True)
    # A list that an earlier run left, of other pairs.
    write_dead(tmp_path / "work" / "lists" / "refill-1-dead.parquet", Dead(*[np.zeros(0, np.uint64)] * 3))
    lock = load_lock(folder / "lock.parquet")
    full = Rehydration(lock, tmp_path / "again", tmp_path / "work", job, candidates=str(folder / "out")).run()
    assert (full.untried, full.refilled > 0) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "fetch").rglob("*.parquet")} == before
    lists = sorted((tmp_path / "work" / "lists").glob("*-dead.parquet"))
    assert pairs_of(tmp_path / "again") == drawn_from_the_living(folder, tmp_path, read_dead(str(lists[-1])))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"sets": ["dedup.plain=drop"]}, "give one of"),
        ({"sets": ["fetch.nothing=1"]}, "nothing"),
        ({"sets": ["shard.nothing=1"]}, "nothing"),
        ({"candidates": "no-such-folder"}, "no-such-folder"),
        ({"sets": ["candidates.max_files=1"]}, "is for a table that --candidates names, and there is none"),
        ({"sets": ["candidates.max_files=1"], "candidates": "out"}, "were read before: leave it out"),
        ({"sets": ["candidates.max_files=1"], "candidates": "out/stages/candidates"}, "were read before: leave it"),
    ],
)
def test_bad_input_is_a_sentence_before_anything_is_fetched(built, tmp_path, monkeypatch, keywords, said):
    folder, web = built
    monkeypatch.chdir(folder)
    asked = len(web.asked)
    with pytest.raises(OpenWITError, match=said):
        rehydrate(folder, tmp_path, **keywords)
    assert len(web.asked) == asked


def test_a_folder_with_other_files_is_refused_before_anything_is_fetched(built, tmp_path):
    folder, web = built
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "mine").touch()
    asked = len(web.asked)
    with pytest.raises(OpenWITError, match="not empty"):
        rehydrate(folder, tmp_path)
    assert len(web.asked) == asked


@pytest.mark.slow
def test_a_rehydration_that_was_killed_is_resumed(built, tmp_path, monkeypatch):
    folder, _ = built
    (tmp_path / "whole").mkdir()
    rehydrate(folder, tmp_path / "whole", candidates=str(folder / "pool.parquet"))
    monkeypatch.setattr("openwit.pipeline.rehydration.stages._write_counts", _killed)
    with pytest.raises(KeyboardInterrupt):
        rehydrate(folder, tmp_path, candidates=str(folder / "pool.parquet"))
    monkeypatch.undo()
    rehydrate(folder, tmp_path, candidates=str(folder / "pool.parquet"))
    for name in ("manifest.json", "rehydrated.parquet", "queries.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / "again" / name).read_bytes()


def _killed(*_):
    raise KeyboardInterrupt


def test_the_command_prints_what_became_of_the_samples(built, tmp_path, monkeypatch, capsys):
    folder, _ = built
    lock = str(folder / "lock.parquet")
    for flags in (["--dry-run"], ["--workers", "1"]):
        monkeypatch.setattr("sys.argv", ["wit", "rehydrate", lock, "--out", str(tmp_path / "again"), *flags])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        said = capsys.readouterr().out
        if flags == ["--dry-run"]:
            assert "to ask the web for" in said
            assert not (tmp_path / "again").exists()
    assert "reencoded" in said
    assert "3" in said
