"""Build the demo's dataset on every engine and compare bytes, seconds and CPU seconds.

    python benchmarks/engines.py [--out FOLDER] [--concepts N]

The web of the demo is drawn and crawled once, and served on loopback. Then the same recipe is built

* on the local engine with one and with two workers,
* on Beam in the process, and on Beam's Python job service with workers of another process group in another folder,
* on a Ray cluster of two nodes whose work folder is on an S3 server (moto), if ray is installed,
* begun on the local engine in that store, killed with SIGKILL in the middle, and resumed on Ray.

CPU seconds are those of the command and of the services that compute for it, without the web server and the S3 server
(Linux only).
The first build is the standard; a dataset with other bytes ends the program with exit code 1.
"""

import argparse
import contextlib
import ctypes
import importlib.util
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.beam_services import OUR_POOL, beam_services
from support.ray_cluster import ray_cluster
from support.s3_server import BUCKET, s3_server
from support.trees import dataset_tree

import openwit
from openwit.schemas.common.storage import as_path
from openwit.workflows.demo.crawler import crawl
from openwit.workflows.demo.serving import serving
from openwit.workflows.demo.web import make_inputs

RECIPE = Path(openwit.__file__).parent / "workflows" / "demo" / "recipe.yaml"
TICKS = os.sysconf("SC_CLK_TCK")
# Of <linux/prctl.h>: processes that outlive their parent become children of this one, whose CPU time is then counted.
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Measured:
    """One build.

    Attributes:
        seconds: wall time of the command.
        cpu_seconds: of the command and of the services.
    """

    seconds: float
    cpu_seconds: float


def main() -> int:
    """Run all builds; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/engines"))
    parser.add_argument("--concepts", type=int, default=None, help="emoji of the web; all by default")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    print(make_inputs(out / "demo", arguments.concepts, fresh=False))
    failed = False
    with serving(out / "demo" / "web", 0) as port:
        crawl(out / "demo" / "crawl", port)
        expected: dict[str, str] | None = None
        print(f"load average before: {os.getloadavg()[0]:.1f}\n")
        print("| engine | seconds | CPU s | dataset |\n|---|---|---|---|", flush=True)
        for name, folder, measured in _builds(out):
            tree = dataset_tree(as_path(folder) / "dataset")
            expected = expected or tree
            same = tree == expected
            failed |= not same
            verdict = f"{len(tree)} files, the same bytes" if same else "OTHER BYTES"
            print(f"| {name} | {measured.seconds:.1f} | {measured.cpu_seconds:.1f} | {verdict} |", flush=True)
    return int(failed)


def _builds(out: Path) -> Iterator[tuple[str, str, Measured]]:
    build = [sys.executable, "-m", "openwit.pipeline", "build", str(RECIPE)]
    demo = out / "demo"
    build += [
        "--set",
        f"candidates.inputs=[{demo}/crawl/*.warc.gz]",
        "--set",
        f"queries.wikipedia=[{demo}/wikipedia/*.xml.bz2]",
    ]

    def run(
        name: str, folder: str, *flags: str, services: Iterable[int] = (), **environment: str
    ) -> tuple[str, str, Measured]:
        return name, folder, _measure([*build, "--workdir", folder, *flags], services, environment)

    for workers in ("1", "2"):
        folder = str(out / f"local-{workers}")
        yield run(f"local, {workers} worker{'s' * (workers != '1')}", folder, "--workers", workers)
    yield run("Beam, in the process", str(out / "beam"), "--runner", "beam")
    elsewhere = out / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    with beam_services(elsewhere, OUR_POOL) as services:
        flags = [
            "--runner",
            "portable",
            "--cluster",
            services.job,
            "--",
            "--environment_type=EXTERNAL",
            f"--environment_config={services.pool}",
        ]
        yield run("Beam's job service, EXTERNAL workers", str(out / "portable"), *flags, services=services[2:])
    if importlib.util.find_spec("ray") is None:
        print("(ray is not installed: pip install 'openwit[ray]')")
        return
    with s3_server() as environment, ray_cluster(environment) as cluster:
        os.environ.update(environment)  # also for the comparison of this process
        ray = ["--runner", "ray", "--cluster", cluster.address]
        yield run("Ray, two nodes, S3", f"s3://{BUCKET}/ray", *ray, services=[node.pid for node in cluster.nodes])
        folder = f"s3://{BUCKET}/moved"
        first = _killed(
            [*build, "--workdir", folder, "--workers", "2"],
            lambda: (as_path(folder) / "stages" / "fetch").exists(),
        )
        name, _, second = run(
            "local in S3, killed; resumed on Ray", folder, *ray, services=[node.pid for node in cluster.nodes]
        )
        yield name, folder, Measured(first.seconds + second.seconds, first.cpu_seconds + second.cpu_seconds)


def _measure(command: list[str], services: Iterable[int], environment: dict[str, str]) -> Measured:
    services = list(services)
    before, began = _cpu(services), time.monotonic()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    _reap()
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return Measured(seconds, _cpu(services) - before)


def _killed(command: list[str], ready: Callable[[], bool]) -> Measured:
    """Run a command in a session of its own and kill all of it once a condition holds."""
    began, before = time.monotonic(), _cpu([])
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not ready():
        time.sleep(0.1)
    if process.poll() is not None:
        sys.exit("the build ended before it could be killed")
    spent = _cpu([process.pid])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return Measured(time.monotonic() - began, spent - before)


def _reap() -> None:
    """Wait for processes of the command that outlive it by a moment."""
    until = time.monotonic() + 2
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)


def _cpu(services: Iterable[int]) -> float:
    """Return CPU seconds of this process's ended children, and of all processes in the services' sessions."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    sessions = set(services)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) in sessions:
                    total += sum(int(ticks) for ticks in fields[11:15]) / TICKS
    return total


if __name__ == "__main__":
    sys.exit(main())
