"""A campaign of faults on whole builds: kills, signals, lost nodes, and damaged work files, at random moments.

    python -m tests.faults --times 10 --seed 0
    python -m tests.faults --engine ray --times 3          # needs openwit[ray]; two nodes, an S3 server between them
    python -m tests.faults --engine portable --times 3     # Beam's job service, with workers in other processes

Each round starts a build of a small dataset, disturbs it, runs the same command again, and compares every file of the
dataset with that of an undisturbed build. A round ends in one of three ways: `same` (the second run gives the same
bytes), `refused` (the second run ends in one sentence and exit code 2, and a build in a new folder gives the same
bytes), or a failure, which is printed. The table that this prints is in docs/reliability.md.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from support.beam_services import Services, beam_services
from support.ray_cluster import Cluster, ray_cluster
from support.s3_server import BUCKET, s3_server
from support.small_build import make_recipe
from support.trees import dataset_tree

from openwit.schemas.common.storage import as_path
from openwit.schemas.common.storage.reading import remove_tree

WIT = [sys.executable, "-m", "openwit.pipeline", "build"]
LONGEST_S = 240


@dataclass
class Place:
    """Where builds run.

    Attributes:
        recipe: path of the recipe.
        work: folder or URL below which work folders are.
        flags: of the command.
        seconds: that an undisturbed build takes.
        cluster: of Ray.
        services: of Beam.
    """

    recipe: Path
    work: Path
    flags: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cluster: Cluster | None = None
    services: Services | None = None

    def command(self, workdir: Path, *more: str) -> list[str]:
        return [*WIT, str(self.recipe), "--workdir", str(workdir), *self.flags, *more, *self.after]

    def start(self, workdir: Path, *more: str) -> "subprocess.Popen[str]":
        """Start a build."""
        command = self.command(workdir, *more)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, workdir: Path) -> subprocess.CompletedProcess[str]:
        """Run a build to its end."""
        command = self.command(workdir)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)


Fault = Callable[[Place, Path, random.Random], str]


def signal_once(number: int, *more: str) -> Fault:
    """Return a fault that sends a signal to the command at a random moment."""

    def disturb(place: Place, workdir: Path, rng: random.Random) -> str:
        process = place.start(workdir, *more)
        time.sleep(rng.uniform(0.5, place.seconds))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        return f"a traceback after {signal.Signals(number).name}" if "Traceback" in said else ""

    return disturb


def kill_thrice(victims: Callable[[Place, int], list[int]], *more: str) -> Fault:
    """Return a fault that kills one of the victims at three random moments; the build must end by itself."""

    def disturb(place: Place, workdir: Path, rng: random.Random) -> str:
        process = place.start(workdir, *more)
        for moment in sorted(rng.uniform(0.5, place.seconds) for _ in range(3)):
            time.sleep(moment / 3)
            found = victims(place, process.pid)
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(found), signal.SIGKILL)
        return ended(process)

    return disturb


def lose_a_node(place: Place, workdir: Path, rng: random.Random) -> str:
    """Kill a third node at a random moment; the build must end by itself."""
    assert place.cluster is not None
    node = place.cluster.start()
    process = place.start(workdir)
    time.sleep(rng.uniform(1, place.seconds))
    place.cluster.kill(node)
    return ended(process)


def ended(process: "subprocess.Popen[str]") -> str:
    """Wait for a command; return what went wrong."""
    _, said = process.communicate(timeout=LONGEST_S)
    if process.returncode == 0 or is_sentence(process.returncode, said):
        return ""
    return f"exit code {process.returncode}: {said.strip()[-600:]}"


def is_sentence(code: int, said: str) -> bool:
    """Return whether a command ended in one sentence."""
    return code == 2 and "Traceback" not in said and not said.strip().count("\n")


def local_workers(_: Place, driver: int) -> list[int]:
    """Return the worker processes of the local pool: children of the fork server."""
    return [child for server in children(driver) for child in children(server)]


def ray_workers(place: Place, _: int) -> list[int]:
    """Return the processes in which Ray runs tasks."""
    assert place.cluster is not None
    found, left = [], [node.pid for node in place.cluster.nodes]
    while left:
        process = left.pop()
        left += children(process)
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::_serve"):
                found.append(process)
    return found


def beam_workers(place: Place, _: int) -> list[int]:
    """Return the processes that the pool of Beam started."""
    assert place.services is not None
    return children(place.services.pool_process)


def children(process: int) -> list[int]:
    """Return the children of a process, whichever thread started them; none if it is gone."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in listed.read_text().split()]
    return found


def damage_once(kind: str) -> Fault:
    """Return a fault that kills a build at a random moment, and then damages a random work file."""

    def disturb(place: Place, workdir: Path, rng: random.Random) -> str:
        signal_once(signal.SIGKILL)(place, workdir, rng)
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


FAULTS: dict[str, dict[str, Fault]] = {
    "local": {
        "SIGKILL": signal_once(signal.SIGKILL),
        "SIGKILL, two workers": signal_once(signal.SIGKILL, "--workers", "2"),
        "Ctrl-C (SIGINT)": signal_once(signal.SIGINT),
        "SIGKILL of workers, three times a build": kill_thrice(local_workers, "--workers", "2"),
        "SIGTERM": signal_once(signal.SIGTERM),
        "a flipped bit in a work file, after a kill": damage_once("flip"),
        "a work file cut short, after a kill": damage_once("cut"),
        "a work file deleted, after a kill": damage_once("delete"),
    },
    "ray": {
        "the driver killed": signal_once(signal.SIGKILL),
        "workers killed, three times a build": kill_thrice(ray_workers),
        "a node killed": lose_a_node,
    },
    "portable": {
        "the driver killed": signal_once(signal.SIGKILL),
        "workers killed, three times a build": kill_thrice(beam_workers),
    },
}


def play(fault: Fault, place: Place, workdir: Path, rng: random.Random, expected: dict[str, str]) -> str:
    """Play one round; return how it ended."""
    try:
        if problem := fault(place, workdir, rng):
            return problem
        done = place.run(workdir)
        if done.returncode == 0:
            return "same" if dataset_tree(workdir / "dataset") == expected else "a dataset with other bytes"
        if not is_sentence(done.returncode, done.stderr):
            return f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"
        remove_tree(workdir)
        again = place.run(workdir)
    except subprocess.TimeoutExpired as error:
        return f"no end after {error.timeout} s"
    same = again.returncode == 0 and dataset_tree(workdir / "dataset") == expected
    return "refused" if same else f"not repaired: {done.stderr.strip()[-300:]}"


@contextlib.contextmanager
def place_of(engine: str, folder: Path, recipe: Path) -> Iterator[Place]:
    """Prepare an engine; processes that it needs end with the block."""
    if engine == "ray":
        with s3_server() as environment:
            os.environ.update(environment)
            with ray_cluster(environment) as cluster:
                flags = ["--runner", "ray", "--cluster", cluster.address]
                yield Place(recipe, as_path(f"s3://{BUCKET}"), flags, cluster=cluster)
    elif engine == "portable":
        with beam_services(folder) as services:
            external = ["--", "--environment_type=EXTERNAL", f"--environment_config={services.pool}"]
            flags = ["--runner", "portable", "--cluster", services.job]
            yield Place(recipe, folder, flags, external, services=services)
    else:
        yield Place(recipe, folder)


def campaign(place: Place, faults: dict[str, Fault], times: int, seed: int) -> list[str]:
    """Play the rounds of some faults, print the table, and return the failures."""
    started = time.monotonic()
    whole: Any = place.run(place.work / "whole")
    assert whole.returncode == 0, whole.stderr
    place.seconds = time.monotonic() - started
    expected = dataset_tree(place.work / "whole" / "dataset")
    print("| fault | times | same bytes | refused in one sentence | failed |\n|---|---|---|---|---|", flush=True)
    failures = []
    for number, (name, fault) in enumerate(faults.items()):
        outcomes: Counter[str] = Counter()
        for n in range(times):
            rng = random.Random(seed * 1_000_003 + number * 1_009 + n)
            workdir = place.work / f"w{number}-{n}"
            outcome = play(fault, place, workdir, rng, expected)
            outcomes[outcome if outcome in ("same", "refused") else "failed"] += 1
            if outcome not in ("same", "refused"):
                failures.append(f"{name}, round {n}: {outcome}")
            remove_tree(workdir)
        row = [outcomes.total(), outcomes["same"], outcomes["refused"], outcomes["failed"]]
        print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)
    return failures


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(FAULTS), default="local")
    parser.add_argument("--times", type=int, default=10, help="rounds per fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(make_recipe(folder).to_dict()))
        chosen = {fault: play for fault, play in FAULTS[arguments.engine].items() if arguments.only in fault}
        with place_of(arguments.engine, folder, recipe) as place:
            failures = campaign(place, chosen, arguments.times, arguments.seed)
    print("\n".join(failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
