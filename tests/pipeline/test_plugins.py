"""Filters and a reader outside the repository: a build with a copy of the files in docs/examples/plugins."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from support.pictures import picture

from openwit.pipeline.cli.main import main
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.samples import SAMPLES

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "plugins"


def dark_picture():
    out = io.BytesIO()
    Image.new("RGB", (80, 80), (9, 9, 9)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def stranger(tmp_path):
    """A folder with the example's files, an archive that its reader reads, and queries."""
    folder = tmp_path / "stranger"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        texts = ["A red kite in the field", "a kite meme of the day", "red kite", "A red kite at night", "IMG_0042"]
        for n, text in enumerate(texts):
            archive.writestr(f"{n}.png", dark_picture() if "night" in text else picture(n, form="PNG"))
            archive.writestr(f"{n}.txt", text)
        archive.writestr("alone.png", picture(9, form="PNG"))
    (folder / "queries.txt").write_text("red kite\nkite\n")
    return folder


def wit(arguments, capsys, monkeypatch):
    """Runs the command in this process; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_the_example_builds_and_its_drops_are_counted_and_explained(stranger, capsys, monkeypatch):
    path = os.pathsep.join([str(stranger), *filter(None, [os.environ.get("PYTHONPATH")])])
    build = ["build", "recipe.yaml", "--workdir", "build"]
    command = [sys.executable, "-m", "openwit.pipeline", *build]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=stranger, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = DatasetManifest.load(stranger / "build" / "dataset")
    funnel = {(step.stage, step.unit): step for step in manifest.funnel}
    pairs = funnel["candidates", "pairs"]
    assert (pairs.rows_in, pairs.rows_out) == (5, 2)
    assert pairs.reasons == {"fewer_than_3_words": 2, "no_memes": 1}  # no text filter but those asked for
    images = funnel["fetch", "images"]
    assert (images.rows_in, images.rows_out, images.reasons) == (2, 1, {"no_dark": 1})
    (shard,) = manifest.shards
    (row,) = SAMPLES.read(stranger / "build" / "dataset" / shard.metadata.path).to_pylist()
    assert row["texts"] == ["A red kite in the field"]
    assert row["licenses"] == ["CC0-1.0"]
    assert row["archives"] == ["pictures.zip"]

    monkeypatch.chdir(stranger)
    monkeypatch.syspath_prepend(str(stranger))
    for number, reason in ((1, "no memes"), (2, "fewer than 3 words"), (3, "no dark")):
        code, printed, _ = wit(["explain", "build/dataset", f"table:pictures.zip#{number}"], capsys, monkeypatch)
        assert code == 0
        assert reason in printed

    # The same recipe has nothing to do; a changed setting of a plug-in makes another recipe.
    assert "Nothing to do" in wit(build, capsys, monkeypatch)[1]
    setting = "fetch.image.filters=[{name: mypkg.images.no_dark, darkest: 61}]"
    code, _, error = wit([*build, "--set", setting], capsys, monkeypatch)
    assert code == 2
    assert "another recipe's build" in error
    assert "darkest" in error


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("candidates.filters.custom=[mypkg.texts.no_mems]", "custom: 'mypkg.texts.no_mems': module 'mypkg.texts' has"),
        ("candidates.filters.custom=[{name: mypkg.texts.MinWords, wrds: 3}]", "called with 0 positional arguments"),
        ("candidates.filters.custom=[mypkg.archives.read_zip]", "cannot be called with 2 positional arguments"),
        ("candidates.filters.custom=[operator.getitem]", "'operator.getitem' failed on the text 'A red kite in the"),
        ("candidates.readers={.zip: mypkg.nothing.read}", "readers .zip: 'mypkg.nothing.read': there is no module"),
        ("candidates.readers={.zip: builtins.open}", "pictures.zip: reader 'builtins.open' failed at record"),
        ("fetch.image.filters=[mypkg.images]", "fetch.image.filters: 'mypkg.images' is a module, not a function"),
    ],
)  # fmt: skip
def test_a_plugin_that_is_wrong_is_one_sentence(stranger, capsys, monkeypatch, setting, message):
    monkeypatch.chdir(stranger)
    monkeypatch.syspath_prepend(str(stranger))
    arguments = ["build", "recipe.yaml", "--workdir", "build", "--set", setting]
    code, _, error = wit(arguments, capsys, monkeypatch)
    assert code == 2, error
    assert message in error
    assert error.count("\n") == 1
