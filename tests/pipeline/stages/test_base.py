"""The stages as a whole: what each declares, that reasons have meanings, and a stage from outside the repository."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from support.pictures import picture

from openwit.pipeline.api import run_stage
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages import STAGES, stage_named, writers_of
from openwit.pipeline.stages.base import DATASET, _open
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.meanings import known_reasons, meanings
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.settings import Settings
from openwit.schemas.manifest import DatasetManifest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_declares_what_recipes_and_commands_need(name):
    stage = stage_named(name)
    assert (stage.name, stage.identifier()) == (name, name)
    assert issubclass(stage.settings, Settings)
    assert stage.summary
    assert "\n" not in stage.summary
    for kind in (stage.output, *(port.kind for port in stage.inputs)):
        table = kind.table()
        assert (table is None) == (kind == DATASET)
        assert table is None or table.name == kind.name
    for port in stage.inputs:
        assert writers_of(port.kind) or (port.optional and port.takes_file)


def test_every_reason_has_a_meaning_and_no_reason_is_a_plain_string_of_the_source():
    """A word given as a reason anywhere in the package is one that the stages list, with its meaning."""
    known = meanings()
    assert all(isinstance(reason, Reason) and reason.meaning for reason in known_reasons())
    assert known["damaged_line"]
    given = re.compile(r'\.(?:drop|refuse)\([^()\[\]\n]*"([a-z_]+)"|"reason": "([a-z_]+)"|reasons\["([a-z_]+)"\]')
    words = {
        word
        for path in sorted((ROOT / "pipeline").rglob("*.py"))
        for found in given.findall(path.read_text())
        for word in found
        if word
    }
    assert sorted(words - known.keys()) == []


def test_all_lists_of_reasons_are_collected():
    """Every `*_REASONS` of a reader or a stage is known to the registry."""
    known = meanings()
    missing = []
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        names = re.findall(r"^([A-Z_]+_REASONS)\b", path.read_text(), re.M)
        if names:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            loaded = importlib.import_module(f"openwit.{module}")
            for name in names:
                listed = getattr(loaded, name)
                reasons = listed.values() if isinstance(listed, dict) else listed
                missing += [(name, str(reason)) for reason in reasons if reason not in known]
    assert missing == []


def test_recipes_and_stages_load_neither_arrow_nor_beam():
    code = """
import sys
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages import all_stages
all_stages()
heavy = "numpy pyarrow apache_beam numba pycurl fsspec PIL fasttext langdetect protego rich typer".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_stage_is_named_with_the_one_that_was_meant():
    with pytest.raises(RecipeError, match=r"unknown stage 'slect'; did you mean 'select'\?"):
        stage_named("slect")
    with pytest.raises(RecipeError, match="nowhere"):
        stage_named("nowhere.at.All")
    with pytest.raises(RecipeError, match="not a subclass of"):
        stage_named("pathlib.Path")


def test_ports_are_checked_before_anything_is_written(tmp_path):
    dedup = stage_named("dedup")
    with pytest.raises(RecipeError, match="stage dedup has no input 'pictures'; it has: images"):
        dedup.open_inputs({"pictures": tmp_path}, DedupSettings())
    with pytest.raises(RecipeError, match="stage dedup needs images"):
        dedup.open_inputs({}, DedupSettings())
    with pytest.raises(RecipeError, match="stage dedup takes one images, got 2"):
        dedup.open_inputs({"images": [tmp_path, tmp_path]}, DedupSettings())
    with pytest.raises(DataError, match=r"nothing.parquet does not exist"):
        _open(stage_named("select").inputs[1], tmp_path / "nothing.parquet")


def with_bar(number: int) -> bytes:
    """A picture whose upper third is white."""
    pixels = np.asarray(Image.open(io.BytesIO(picture(number))).convert("RGB")).copy()
    pixels[: len(pixels) // 3] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A build with a stage from a package outside the repository."""
    folder = tmp_path_factory.mktemp("foreign")
    package = folder / "code" / "mypkg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "docs" / "examples" / "plugins" / "mypkg" / "memes.py", package / "memes.py")
    rows = [{"url": f"http://a.org/{n}.jpg", "image": picture(n), "text": f"a red kite {n}"} for n in range(8)]
    rows += [{"url": f"http://a.org/meme{n}.jpg", "image": with_bar(20 + n), "text": f"a kite {n}"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "birds.parquet")
    (folder / "queries.txt").write_text("kite\n")
    steps = [
        {"queries": {"tables": [str(folder / "queries.txt")]}},
        {"candidates": {"inputs": [str(folder / "birds.parquet")]}},
        "select",
        {"fetch": {"image": {"size": 64}}},
        {"stage": "mypkg.memes.NoMemes", "name": "no-memes", "from": {"images": "fetch"}, "settings": {"share": 0.1}},
        "dedup",
        "shard",
        "card",
    ]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "birds", "steps": steps}))
    paths = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", str(ROOT / "src"))])
    environment = {**os.environ, "PYTHONPATH": paths}

    def wit(*arguments, run=("-m", "openwit.pipeline")):
        command = [sys.executable, *run, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)

    done = wit("build", "recipe.yaml", "--workdir", "build", "--set", "no-memes.share=0.2")
    assert done.returncode == 0, done.stderr
    return folder, wit, done.stdout


def test_a_stage_from_elsewhere_runs_in_a_build(foreign):
    folder, _, printed = foreign
    manifest = DatasetManifest.load(folder / "build" / "dataset")
    assert sum(manifest.samples(split) for split in manifest.splits()) == 8
    step = next(step for step in manifest.funnel if (step.stage, step.unit) == ("no-memes", "images"))
    assert (step.rows_in, step.rows_out, step.reasons) == (11, 8, {"caption_bar": 3})
    assert "caption_bar" in printed
    assert list(manifest.recipe) == ["queries", "candidates", "select", "fetch", "no-memes", "dedup", "shard"]
    assert manifest.recipe["no-memes"] == {"share": 0.2}
    assert manifest.steps == {
        "no-memes": {"stage": "mypkg.memes.NoMemes", "name": "no-memes", "from": {"images": "fetch"}}
    }


WITH_WORKERS = """
from pathlib import Path
from mypkg.memes import NoMemes, NoMemesSettings
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
inputs = {"images": Path("build/stages/fetch")}
print(NoMemes().run(Job(make_engine("local", 2)), NoMemesSettings(share=0.2), inputs, Path("alone")).executed)
"""


def test_worker_processes_import_it(foreign):
    folder, wit, _ = foreign
    done = wit(run=("-c", WITH_WORKERS))
    assert done.stdout.strip() == "True", done.stderr
    for kind in ("images", "drops"):
        [path] = (folder / "alone" / kind).iterdir()
        assert path.read_bytes() == (folder / "build" / "stages" / "no-memes" / kind / path.name).read_bytes()


def test_its_drops_are_explained_and_on_the_card(foreign):
    folder, wit, _ = foreign
    page = (folder / "build" / "dataset" / "card.html").read_text()
    assert "a white bar for a caption, as memes have it" in page
    assert "mypkg.memes.NoMemes" in page
    facts = json.loads((folder / "build" / "dataset" / "card.json").read_text())
    assert {
        "stage": "no-memes",
        "unit": "pairs",
        "rows_in": 11,
        "rows_out": 8,
        "reasons": {"caption_bar": 3},
    } in facts["flow"]
    explained = wit("explain", "build/dataset", "http://a.org/meme1.jpg")
    assert "at no-memes: caption bar" in explained.stdout
    assert "a white bar for a caption" in explained.stdout


def test_it_is_resumed_as_any_stage_is(foreign):
    _, wit, _ = foreign
    again = wit("build", "recipe.yaml", "--workdir", "build", "--set", "no-memes.share=0.2")
    assert "Nothing to do" in again.stdout, again.stderr
    changed = wit("build", "recipe.yaml", "--workdir", "build")
    assert "holds another recipe's build (no-memes.share was 0.2, now 0.1)" in changed.stderr


def test_paths_are_absolute_before_a_worker_sees_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("oak\n")
    (tmp_path / "pairs.jsonl").write_text('{"url": "https://example.org/oak.jpg", "text": "an oak"}\n')
    run_stage("queries", "q", settings={"tables": ["list.txt"]}, workers=1)
    run_stage("candidates", "c", settings={"inputs": ["pairs.jsonl"]}, workers=1)
    select, seen = stage_named("select"), []

    def execute(_self, _job, _settings, inputs, folder, _build):
        seen.extend([folder, *(upstream.folder for upstream in inputs.all())])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(select), "execute", execute)
    with pytest.raises(KeyboardInterrupt):
        run_stage("select", "s", inputs={"candidates": "c", "queries": Path("q")}, workers=1)
    assert seen == [tmp_path / "s", tmp_path / "c", tmp_path / "q"]
