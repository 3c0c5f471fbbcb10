"""Run the main job from end to end: make the web, crawl it, build a dataset, train a CLIP, evaluate it.

Each step is the command a user would type, run as a process of its own and shown before it starts.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from openwit.pipeline.execution.engine import default_workers
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.workflows.demo.crawler import crawl
from openwit.workflows.demo.report import RECORD
from openwit.workflows.demo.serving import serving
from openwit.workflows.demo.web import make_inputs

_HERE = Path(__file__).parent
RECIPE = _HERE / "recipe.yaml"
CONFIG = _HERE / "train.yaml"
_MODULES = {"wit": "openwit.pipeline", "wit-train": "openwit.training"}
_COMPILE = """
from openwit.pipeline.stages.select.shared_matcher import compile_matcher
from openwit.training.data.resample import compile_resampling
compile_matcher('words')
compile_resampling()
"""
# The recipe's and the configuration's own paths; another folder is put in their place.
_DEFAULT_OUT = "out/demo"
_RUN = "run"
_HELD_OUT = {
    "val": "held-out drawings from the sites it was trained on",
    "test": "drawings of a site whose way of drawing it never saw",
}
# The verdict rests on this split. The other is reported too: what a few thousand pictures teach hardly carries over
# to a style that none of them has.
_DECIDES = "val"
# What "well above chance" means for the verdict, on the lower end of the interval.
_TIMES_CHANCE = 10


@dataclass(frozen=True)
class Places:
    """Paths of the demo's parts below its folder."""

    out: Path

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    @property
    def run(self) -> Path:
        return self.out / _RUN

    def retrieval(self, split: str) -> Path:
        """Where the figures and the contact sheet of a split go."""
        return self.out / f"retrieval-{split}"

    def sheet(self, split: str) -> Path:
        """The contact sheet of a split."""
        return self.retrieval(split) / "contact-sheet.png"

    def overrides(self) -> dict[str, list[str]]:
        """`--set` flags that move recipe and configuration from their default folder to this one."""
        if str(self.out) == _DEFAULT_OUT:
            return {"wit": [], "wit-train": []}
        inputs = f"candidates.inputs=[{self.out}/crawl/*.warc.gz]"
        wikipedia = f"queries.wikipedia=[{self.out}/wikipedia/*.xml.bz2]"
        return {
            "wit": ["--set", inputs, "--set", wikipedia],
            "wit-train": ["--set", f"data.dataset={self.dataset}", "--set", f"run={self.run}"],
        }


def run_demo(out: Path, port: int, console: Console, *, concepts: int | None, fresh: bool) -> int:
    """Make the web, crawl it, build, train and evaluate; return 0 if the model is clearly better than chance, else 1.

    Args:
        out: folder of the demo.
        port: port on loopback; 0 takes a free one.
        console: where progress and the verdict are printed.
        concepts: use only the first N emoji.
        fresh: remove the web of an earlier run and make it again.

    Raises:
        OpenWITError: the folder holds another demo, the port is in use, or a step failed.
    """
    places, clock = Places(out), _Clock()
    # Of a run that resumes, the seconds would say nothing.
    whole = not out.exists()
    with _compiling():
        console.print(make_inputs(out, concepts, fresh=fresh), markup=False, highlight=False, soft_wrap=True)
    clock.part("web")
    _run_steps(places, port, console, clock)
    if whole:
        _write_record(out, clock)
    return _verdict(console, places, sum(clock.seconds.values()))


@contextmanager
def _compiling() -> Iterator[None]:
    """Compile the matcher and the resampling in another process while the block runs, and wait for it at the end.

    Build and training would compile them on one core while the others wait; if this fails, they still do.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _COMPILE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        child.wait()
    finally:
        child.kill()
        child.wait()


class _Clock:
    """Seconds of each part, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def part(self, name: str) -> None:
        """Attribute the time since the part before to a part."""
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now


def _run_steps(places: Places, port: int, console: Console, clock: _Clock) -> None:
    out, overrides = places.out, places.overrides()
    with serving(out / "web", port) as bound:
        console.rule("Crawl")
        crawl(out / "crawl", bound)
        clock.part("crawl")
        console.rule("Build")
        _step(console, "wit", ["build", str(RECIPE), "--workdir", str(out), *overrides["wit"]])
        clock.part("build")
    console.rule("Train")
    _step(console, "wit-train", ["fit", str(CONFIG), *overrides["wit-train"]])
    clock.part("train")
    console.rule("What it learned")
    for split in _HELD_OUT:
        where = ["--out", str(places.retrieval(split)), "--contact-sheet", str(places.sheet(split))]
        retrieval = ["retrieval", str(places.run), "--dataset", str(places.dataset), "--split", split]
        _step(console, "wit-train", [*retrieval, *where])
    clock.part("evaluate")


def _write_record(out: Path, clock: _Clock) -> None:
    """Write what `report` tells of the run: when, on what, and how long each part took."""
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": default_workers(),
        "load": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "seconds": {name: round(seconds, 1) for name, seconds in clock.seconds.items()},
    }
    atomic_write(out / RECORD, json.dumps(record, indent=1) + "\n")


def _step(console: Console, command: str, arguments: Sequence[str]) -> None:
    console.print(f"$ {command} {' '.join(arguments)}", style="bold", highlight=False, soft_wrap=True)
    # -P: a folder of the user's that is called like a module of ours is not imported instead of it.
    done = subprocess.run([sys.executable, "-P", "-m", _MODULES[command], *arguments], check=False)
    if done.returncode:
        raise OpenWITError(
            f"`{command} {arguments[0]}` ended with exit code {done.returncode}: its own words stand above"
        )


def _verdict(console: Console, places: Places, seconds: float) -> int:
    dataset = DatasetManifest.load(places.dataset)
    console.rule("Verdict")
    lines, good = [], True
    for split, what in _HELD_OUT.items():
        result = json.loads((places.retrieval(split) / "retrieval.json").read_text())
        lines.append(f"  {result['images']:,} {what}:")
        for direction, by_rule in result["recall"].items():
            best = next(recall for recall in by_rule["strict"] if recall["k"] == 1)
            # The lower end of the 95 % interval, so that luck does not pass.
            if split == _DECIDES:
                good &= best["low"] >= _TIMES_CHANCE * best["chance"]
            ratio = best["value"] / best["chance"]
            name = direction.replace("_", " ")
            lines.append(f"    {name}: the first of all is right in {best['value']:.1%}, {ratio:,.0f} times chance")
    console.print(
        f"{'PASSED' if good else 'FAILED'} in {seconds / 60:.1f} minutes: a CLIP trained on "
        f"{dataset.samples('train'):,} pictures of the crawl, measured on pictures it never saw:",
        *lines,
        "Look at:",
        f"  {places.sheet('val')}   captions, and the pictures found for them",
        f"  {places.sheet('test')}  the same on the unseen site",
        f"  {places.dataset}/card.html   what the dataset holds and how it came to be",
        f"  tensorboard --logdir {places.run}   how the training went",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if good else 1
