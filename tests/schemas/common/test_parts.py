"""What is said where a part is not installed, and what works without any."""

import io
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from PIL import Image

import openwit
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.parts import MODULES, MissingPartError, part_of, refuse_unsupported_system, require_part
from openwit.workflows.starters import copy_starter

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
# Also what these bring, so that nothing comes in by another name.
BLOCKED = sorted({module for names in MODULES.values() for module in names} | {"pandas", "scipy", "llvmlite"})
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
NO_FCNTL = "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None\n"
WIT = "from openwit.pipeline.cli.main import main; main()"
WIT_TRAIN = "from openwit.training.cli.main import main; main()"


def run(before: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(Path(openwit.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four pictures, built by the command."""
    folder = tmp_path_factory.mktemp("parts")
    rows = []
    for number in range(4):
        buffer = io.BytesIO()
        Image.effect_noise((64, 64), 20 * number + 20).convert("RGB").save(buffer, "PNG")
        rows.append({"url": f"http://a.org/{number}.png", "image": buffer.getvalue(), "text": f"a red kite {number}"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "birds.parquet")
    (folder / "queries.txt").write_text("kite\n")
    copy_starter("pairs", folder)
    sets = [
        f"candidates.inputs=[{folder}/birds.parquet]",
        f"queries.tables=[{folder}/queries.txt]",
        "queries.wordnet=null",
    ]
    flags = [part for setting in sets for part in ("--set", setting)]
    done = run("", WIT, "build", folder / "pairs.yaml", "--workdir", folder / "out", *flags)
    assert done.returncode == 0, done.stderr
    return folder / "out" / "dataset"


@pytest.mark.parametrize("command", [WIT, WIT_TRAIN])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_need_no_part(command: str, flag: str) -> None:
    done = run(BLOCKER, command, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert (openwit.__version__ if flag == "--version" else "--install-completion") in done.stdout


def test_reading_commands_need_no_part(dataset: Path) -> None:
    done = run(BLOCKER, WIT, "verify", dataset)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(BLOCKER, WIT, "explain", dataset, "http://a.org/1.png")
    assert done.returncode == 0, done.stderr
    assert "a red kite 1" in done.stdout


def test_wit_init_needs_no_part(tmp_path: Path) -> None:
    done = run(BLOCKER, WIT, "init", "pairs", "--out", tmp_path / "new")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "pairs.yaml").is_file()


@pytest.mark.parametrize(
    ("code", "arguments", "sentence"),
    [
        (WIT, ["build", "pairs.yaml"], "wit: wit build needs the part `build` (apache_beam is not installed): "),
        (WIT, ["demo"], "wit: wit demo needs the part `build` (apache_beam is not installed): "),
        (
            WIT_TRAIN,
            ["fit", "train.yaml"],
            "wit-train: this command needs the part `train` (torch is ",
        ),
    ],
)
def test_what_needs_a_part_says_so_in_one_sentence(
    tmp_path: Path, code: str, arguments: list[str], sentence: str
) -> None:
    copy_starter("pairs", tmp_path)
    (tmp_path / "train.yaml").write_text("{}")
    paths = [str(tmp_path / argument) if argument.endswith(".yaml") else argument for argument in arguments]
    done = run(BLOCKER, code, *paths)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith("]'")


@pytest.mark.parametrize("code", [WIT, WIT_TRAIN])
def test_on_windows_the_commands_say_so_in_one_sentence(code: str) -> None:
    # The platform changes after the imports: packages of others would look for modules that only Windows has.
    done = run(NO_FCNTL, code.replace("main()", "sys.platform = 'win32'; main()"), "--help")
    assert done.returncode == 2
    assert re.fullmatch(r"wit(-train)?: OpenWIT runs on Linux and macOS; on Windows, .*WSL 2.*\n", done.stderr)


@pytest.mark.slow
def test_modules_import_without_what_windows_lacks() -> None:
    modules = ["pipeline.download.system", "pipeline.build", "training.data.remote_dataset", "training.run.run_folder"]
    done = run(NO_FCNTL, "; ".join(f"import openwit.{module}" for module in [*modules, "training.engine.runtime"]))
    assert done.returncode == 0, done.stderr


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unsupported_system()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OpenWITError, match="WSL 2"):
        refuse_unsupported_system()


def test_the_modules_of_each_part_are_what_its_extra_installs() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for part, modules in MODULES.items():
        requirements = [Requirement(line) for line in extras[part]]
        declared = {_canonical(one.name) for one in requirements if one.marker is None or one.marker.evaluate()}
        declared.discard("openwit")
        brought = {name: {_canonical(found) for found in distributions.get(name, [name])} for name in modules}
        assert [name for name, found in brought.items() if not found & declared] == [], part
        assert declared - {found for names in brought.values() for found in names} == set(), part


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_missing_module_is_explained_by_the_part_that_is_asked_for() -> None:
    error = ModuleNotFoundError("No module named 'numba'", name="numba.core")
    assert "openwit[train]" in str(part_of(error, "train"))
    assert "openwit[build]" in str(part_of(error, "build"))
    assert part_of(ModuleNotFoundError("No module named 'x'", name="x"), "build") is None
    assert part_of(ModuleNotFoundError("no name"), "build") is None


def test_a_part_is_complete_or_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_part("build", "this test")
    monkeypatch.setitem(MODULES, "build", ("numba", "no_such_module_at_all"))
    with pytest.raises(MissingPartError, match="no_such_module_at_all is not installed"):
        require_part("build", "this test")
