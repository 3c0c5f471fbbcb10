"""A campaign of faults on whole builds: kills, signals, and damaged work files, at random moments and places.

    python -m tests.faults --times 10 --seed 0

Each round starts a build of a small dataset, disturbs it, runs the same command again, and compares every file of the
dataset with that of an undisturbed build. A round ends in one of three ways: `same` (the second run gives the same
bytes), `refused` (the second run ends in one sentence and exit code 2, and a build in a new folder gives the same
bytes), or a failure, which is printed. The table that this prints is in docs/reliability.md.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from support.small_build import make_recipe
from support.trees import dataset_tree

WIT = [sys.executable, "-m", "openwit.pipeline", "build"]


def run_build(recipe: Path, workdir: Path) -> subprocess.CompletedProcess[str]:
    """Run the build to its end."""
    command = [*WIT, str(recipe), "--workdir", str(workdir)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def signal_once(number: int) -> Callable[[Path, Path, random.Random, float], str]:
    """Return a fault that sends a signal at a random moment."""

    def disturb(recipe: Path, workdir: Path, rng: random.Random, seconds: float) -> str:
        command = [*WIT, str(recipe), "--workdir", str(workdir)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(0.5, seconds))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        if "Traceback" in said:
            return f"a traceback after {signal.Signals(number).name}"
        return ""

    return disturb


def worker_killed(recipe: Path, workdir: Path, rng: random.Random, seconds: float) -> str:
    """Kill workers of a build at three random moments; it must end by itself."""
    command = [*WIT, str(recipe), "--workdir", str(workdir), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for moment in sorted(rng.uniform(0.5, seconds) for _ in range(3)):
        time.sleep(moment / 3)
        workers = [child for server in children(process.pid) for child in children(server)]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    return "" if process.returncode == 0 else f"exit code {process.returncode}: {said.strip()[-300:]}"


def children(process: int) -> list[int]:
    """Return the children of a process; none if it is gone."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in listed.split()]


def damage_once(kind: str) -> Callable[[Path, Path, random.Random, float], str]:
    """Return a fault that kills a build at a random moment, and then damages a random work file."""

    def disturb(recipe: Path, workdir: Path, rng: random.Random, seconds: float) -> str:
        signal_once(signal.SIGKILL)(recipe, workdir, rng, seconds)
        files = [path for path in sorted(workdir.rglob("*")) if path.is_file() and path.stat().st_size]
        files = [path for path in files if path.name not in (".lock", "recipe.yaml")]
        if not files:
            return ""
        path = rng.choice(files)
        data = bytearray(path.read_bytes())
        if kind == "delete":
            path.unlink()
        elif kind == "cut":
            path.write_bytes(data[: rng.randrange(len(data))])
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
        return ""

    return disturb


FAULTS = {
    "SIGKILL": signal_once(signal.SIGKILL),
    "Ctrl-C (SIGINT)": signal_once(signal.SIGINT),
    "SIGKILL of workers, three times a build": worker_killed,
    "SIGTERM": signal_once(signal.SIGTERM),
    "a flipped bit in a work file, after a kill": damage_once("flip"),
    "a work file cut short, after a kill": damage_once("cut"),
    "a work file deleted, after a kill": damage_once("delete"),
}


def play(fault: str, recipe: Path, workdir: Path, rng: random.Random, expected: dict[str, str], seconds: float) -> str:
    """Play one round; return how it ended."""
    if problem := FAULTS[fault](recipe, workdir, rng, seconds):
        return problem
    done = run_build(recipe, workdir)
    if done.returncode == 0:
        return "same" if dataset_tree(workdir / "dataset") == expected else "a dataset with other bytes"
    if done.returncode != 2 or "Traceback" in done.stderr or done.stderr.strip().count("\n"):
        return f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"
    shutil.rmtree(workdir)
    again = run_build(recipe, workdir)
    same = again.returncode == 0 and dataset_tree(workdir / "dataset") == expected
    return "refused" if same else f"not repaired: {done.stderr.strip()[-300:]}"


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="rounds per fault")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(make_recipe(folder).to_dict()))
        started = time.monotonic()
        run_build(recipe, folder / "whole")
        seconds = time.monotonic() - started
        expected = dataset_tree(folder / "whole" / "dataset")
        print("| fault | times | same bytes | refused in one sentence | failed |\n|---|---|---|---|---|", flush=True)
        failures = []
        for number, fault in enumerate(FAULTS):
            ended: Counter[str] = Counter()
            for n in range(arguments.times):
                rng = random.Random(arguments.seed * 1_000_003 + number * 1_009 + n)
                workdir = folder / f"w{number}-{n}"
                outcome = play(fault, recipe, workdir, rng, expected, seconds)
                ended[outcome if outcome in ("same", "refused") else "failed"] += 1
                if outcome not in ("same", "refused"):
                    failures.append(f"{fault}, round {n}: {outcome}")
                shutil.rmtree(workdir, ignore_errors=True)
            print(
                f"| {fault} | {ended.total()} | {ended['same']} | {ended['refused']} | {ended['failed']} |", flush=True
            )
        print("\n".join(failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
