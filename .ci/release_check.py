"""Build sdist and wheel, install each into an empty environment of every Python here, and use what was installed.

    python .ci/release_check.py [--python 3.12]... [--keep FOLDER]

For each Python from 3.11 up that PATH or pyenv shows: the sdist is installed alone and read with; the wheel is
installed alone, with [build] (a small build, without torch on the disk) and, where the index has a torch without CUDA,
with [train] (two steps of training). All of it runs in a folder that lies beside folders named pipeline, schemas and
training, which must do no harm. Needs a package index; takes some minutes per Python.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = [
    "openwit/py.typed",
    "openwit/pipeline/stages/card/card.html.j2",
    "openwit/pipeline/stages/queries/wordnet-3.0.txt.gz",
    "openwit/training/tokenizer/clip_merges.txt.gz",
    "openwit/workflows/demo/recipe.yaml",
    "openwit/workflows/demo/templates/shop.html.j2",
    "openwit/workflows/pairs.yaml",
]
"""Data that must be in the wheel."""
CONSTRAINED = (3, 11)
"""The Python whose versions constraints.txt holds."""
PICTURES = """
import io, pyarrow as pa, pyarrow.parquet as pq
from PIL import Image
rows = []
for number in range(40):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 20 + number).convert("RGB").save(buffer, "PNG")
    text = f"a red kite {number}"
    split = "val" if number % 5 == 0 else "train"
    rows.append({"url": f"http://a.org/{number}.png", "image": buffer.getvalue(), "text": text, "split": split})
pq.write_table(pa.Table.from_pylist(rows), "birds.parquet")
open("queries.txt", "w").write("red kite\\nkite\\n")
"""
LIGHT = """
import sys, openwit
heavy = {"apache_beam", "numba", "numpy", "pandas", "pyarrow", "torch"} & set(sys.modules)
assert not heavy, heavy
print(openwit.__version__)
"""


def main() -> int:
    """Run all checks; return 0 when all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="check only this version, as 3.12; repeatable")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept")
    arguments = parser.parse_args()
    started = time.monotonic()
    pythons = {v: path for v, path in find_pythons().items() if not arguments.python or v in arguments.python}
    print(f"Pythons: {', '.join(pythons) or 'none'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="release-check-") as temporary:
        folder = arguments.keep or Path(temporary)
        sdist, wheel = build(folder / "dist")
        for version, python in pythons.items():
            check_sdist(folder / version, python, sdist)
            check_wheel(folder / version, python, wheel, version)
    print(f"Release check passed on {len(pythons)} Pythons in {(time.monotonic() - started) / 60:.0f} min")
    return 0 if pythons else 1


def find_pythons() -> dict[str, Path]:
    """Find one interpreter for each version from 3.11 up, from pyenv's folder and PATH, as {"3.12": path}."""
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = sorted(pyenv.glob("versions/*/bin/python3.1?"), reverse=True)
    candidates += [path for folder in folders for path in sorted(folder.glob("python3.1?"))]
    found: dict[tuple[int, ...], Path] = {}
    for path in candidates:
        asked = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
        done = subprocess.run([path, "-c", asked], capture_output=True, text=True, check=False)
        version = tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
        if version >= (3, 11):
            found.setdefault(version, path)
    return {".".join(map(str, version)): found[version] for version in sorted(found)}


def build(folder: Path) -> tuple[Path, Path]:
    """Build sdist and wheel; check that the wheel from the sdist is the one from the tree, and what is in it."""
    tree = folder / "tree"
    # A copy: what an earlier build left in the tree would get into the wheel.
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns(".*", "build", "dist", "out", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=ignored)
    step("sdist, and wheel from it", [sys.executable, "-m", "build", "--outdir", folder, tree])
    step("wheel from the tree", [sys.executable, "-m", "build", "--wheel", "--outdir", tree / "dist", tree])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    (direct,) = (tree / "dist").glob("*.whl")
    contents = wheel_contents(wheel)
    differing = sorted(name for name, _ in contents.items() ^ wheel_contents(direct).items())
    check(not differing, f"the wheels from sdist and tree differ in {differing[:5]}")
    top = {name.partition("/")[0] for name in contents}
    check(all(name == "openwit" or name.endswith(".dist-info") for name in top), f"wheel holds {sorted(top)}")
    missing = [name for name in NEEDED if name not in contents]
    check(not missing, f"missing in the wheel: {missing}")
    return sdist, wheel


def wheel_contents(path: Path) -> dict[str, str]:
    """Name and sha256 of every file but the list of them."""
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("RECORD")]
        return {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in names}


def check_sdist(folder: Path, python: Path, sdist: Path) -> None:
    """Install the sdist alone and start its commands."""
    room = Room(folder / "sdist", python)
    room.install(str(sdist), "sdist")
    room.expect(["wit", "--version"], "openwit ")
    room.expect(["wit-train", "--version"], "openwit ")
    room.expect(["wit", "init"], "commoncrawl")


def check_wheel(folder: Path, python: Path, wheel: Path, version: str) -> None:
    """Install the wheel alone, then its parts, and use each."""
    room = Room(folder / "wheel", python)
    constraints = ["-c", str(ROOT / "constraints.txt")] if version == ".".join(map(str, CONSTRAINED)) else []
    room.install(str(wheel), "wheel", constraints)
    room.expect(["python", "-c", LIGHT], "")
    room.expect(["wit", "init", "pairs", "--out", "."], "wrote pairs.yaml")
    room.expect(["python", "-c", PICTURES], "")
    room.expect(["wit", "build", "pairs.yaml"], "pip install 'openwit[build]'", exit_code=2)
    (room.work / "train.yaml").write_text("run: run\ndata: {dataset: built/dataset, batch_size: 8}\n")
    room.expect(["wit-train", "fit", "train.yaml"], "pip install 'openwit[train]'", exit_code=2)

    room.install(f"{wheel}[build]", "wheel[build]", constraints)
    check(not room.has("torch"), "openwit[build] installed torch")
    sets = ["--set", "candidates.inputs=[birds.parquet]", "--set", "queries.tables=[queries.txt]"]
    room.expect(["wit", "build", "pairs.yaml", "--workdir", "built", *sets], "Built 'pairs'")
    room.expect(["wit", "verify", "built/dataset"], "every file")
    room.expect(["wit", "explain", "built/dataset", "http://a.org/3.png"], "a red kite 3")

    if not torch_is_lean(room, constraints):
        print(f"  {version}: [train] not tried: the index offers only a torch that brings CUDA", flush=True)
        return
    room.install(f"{wheel}[train]", "wheel[train]", constraints)
    sets = ["model.name=vit-pico-64", "schedule.duration=2 steps", "eval.split=val", "schedule.warmup=0 steps"]
    room.expect(["wit-train", "fit", "train.yaml", *(part for key in sets for part in ("--set", key))], "")
    check((room.work / "run" / "metrics.jsonl").is_file(), "the run wrote no metrics")


class Room:
    """An empty environment, and an empty folder to work in beside folders that are named like parts of OpenWIT."""

    def __init__(self, folder: Path, python: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.label = f"{folder.parent.name} {folder.name}"
        self.bin = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        for name in ("pipeline", "schemas", "training", "workflows"):
            for place in (folder, self.work):
                (place / name).mkdir()
                (place / name / "__init__.py").write_text(f"raise SystemExit('the folder {name} was imported')\n")
        step(f"{self.label}: environment", [python, "-m", "venv", folder / "venv"])

    def install(self, requirement: str, label: str, flags: list[str] | None = None) -> None:
        """Install with pip."""
        pip = [self.bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        step(f"{self.label}: install {label}", [*pip, *(flags or []), requirement])

    def expect(self, command: list[str], said: str, exit_code: int = 0) -> None:
        """Run an installed command in the work folder; it must print `said` and end with the exit code."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["PATH"] = f"{self.bin}{os.pathsep}{environment['PATH']}"
        line = [str(self.bin / command[0]), *command[1:]]
        done = subprocess.run(line, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        printed = done.stdout + done.stderr
        shown = " ".join(command)[:60].replace("\n", " ").strip()
        good = done.returncode == exit_code and said in printed and "Traceback" not in printed
        check(good, f"{self.label}: `{shown}` ended with {done.returncode}:\n{printed[-3000:]}")
        print(f"  {self.label}: {shown}: as expected", flush=True)

    def has(self, package: str) -> bool:
        """Whether a distribution is installed."""
        asked = [self.bin / "python", "-m", "pip", "show", "--quiet", package]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def torch_is_lean(room: Room, flags: list[str]) -> bool:
    """Whether pip would install torch without gigabytes of CUDA; asks the index, downloads no wheel of torch."""
    pip = [room.bin / "python", "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--report", "-"]
    done = subprocess.run([*pip, *flags, "torch>=2.6"], capture_output=True, text=True, check=False)
    if done.returncode:
        return False
    needs = json.loads(done.stdout)["install"][0]["metadata"].get("requires_dist", [])
    return not any(need.startswith(("nvidia-", "cuda-", "triton")) for need in needs)


def step(label: str, command: list[str | Path]) -> None:
    """Run a command silently; print how long it took, or its output where it failed."""
    before = time.monotonic()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{label} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    print(f"  {label}: {time.monotonic() - before:.0f} s", flush=True)


def check(good: bool, complaint: str) -> None:
    """End with a complaint where something is not as it should be."""
    if not good:
        print(f"release check FAILED: {complaint}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
