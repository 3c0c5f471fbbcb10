"""Everything that a GPU must prove about the trainer, in parts of under three minutes, the most valuable first.

    python benchmarks/gpu.py --part 1 --json gpu.json        # parts 1 to 7; figures are added to the file
    python benchmarks/gpu.py --rehearse                      # all items on a CPU with tiny sizes, in a minute or two
    python benchmarks/gpu.py --list

Each item is a process of its own with a limit of time, so one that fails leaves the others; the JSON is written after
every item, and a table is printed at the end. It makes its own data. `--wheels FOLDER` installs the wheels of a folder
into a temporary one first, for a machine that has torch and nothing else (benchmarks/README.md).
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PART_SECONDS = 175


class Item(NamedTuple):
    """A measurement: a function of `gpu_items`, its arguments, and the seconds it may take."""

    part: int
    name: str
    function: str
    arguments: dict[str, Any]
    seconds: int


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks, recomputation, EMA": {"memory.chunk": 16, "memory.checkpoint_activations": True, "ema.decay": 0.99},
    "fp16": {"precision": "fp16"},
    "fp32, tf32": {"precision": "fp32", "speed.tf32": True},
    "fsdp": {"distributed.strategy": "fsdp"},
    "fsdp, chunks": {"distributed.strategy": "fsdp", "memory.chunk": 16},
    "compile": {"speed.compile": True},
    "compile, chunks, recomputation": {
        "speed.compile": True,
        "memory.chunk": 16,
        "memory.checkpoint_activations": True,
    },
    "ResNet": {"model.name": "RN50"},
    "ResNet, chunks, recomputation": {
        "model.name": "RN50",
        "memory.chunk": 16,
        "memory.checkpoint_activations": True,
    },
    "sigmoid": {"objective.name": "sigmoid"},
    "captioning": {"objective.name": "captioning"},
    "contrastive and captioning": {"objective.name": "contrastive_captioning"},
    "muon": {"optim.name": "muon"},
    "skip unused, compiled": {"speed.skip_unused": True, "speed.compile": True},
    "patch dropout": {"model.patch_dropout": 0.5},
}

ITEMS = [
    Item(1, "step ViT-B/32", "step", {"model": "ViT-B/32", "batch": 1024}, 85),
    Item(1, "step ViT-B/16", "step", {"model": "ViT-B/16", "batch": 512}, 85),
    Item(2, "step ViT-L/14", "step", {"model": "ViT-L/14", "batch": 256}, 170),
    Item(3, "GradCache ViT-B/32", "gradcache", {"model": "ViT-B/32", "batch": 32_768, "chunk": 1024}, 85),
    Item(3, "gradients of chunks", "gradients", {"model": "ViT-B/32", "batch": 512, "chunk": 96}, 60),
    Item(4, "GradCache ViT-L/14", "gradcache", {"model": "ViT-L/14", "batch": 32_768, "chunk": 512}, 170),
    *(Item(5, f"starts: {name}", "starts", {"options": options}, 50) for name, options in OPTIONS.items()),
    Item(6, "loader ViT-B/32", "loader", {"model": "ViT-B/32", "batch": 1024, "steps": 40, "samples": 8192}, 110),
    Item(6, "kernels ViT-B/32", "kernels", {"model": "ViT-B/32", "batch": 512}, 60),
    Item(7, "fp8 ViT-L/14", "fp8", {"model": "ViT-L/14", "batch": 128, "steps": 30}, 85),
    Item(7, "checkpoint ViT-B/32", "checkpoint", {"model": "ViT-B/32", "batch": 256, "steps": 24}, 85),
]
TINY = {"batch": 8, "chunk": 3, "steps": 4, "samples": 32}


def rehearsed(item: Item) -> Item:
    """The same with sizes for a CPU; nothing is compiled there, as that takes longer than all else together."""
    arguments = {name: TINY.get(name, value) for name, value in item.arguments.items()}
    if "model" in arguments:
        arguments["model"] = "vit-pico-64"
    if "options" in arguments:
        arguments["options"] = {
            name: {"memory.chunk": 3, "model.name": "vit-pico-64"}.get(name, value)
            for name, value in item.arguments["options"].items()
            if name != "speed.compile"
        }
    return item._replace(arguments=arguments, seconds=60)


def measured(item: Item, *, rehearse: bool) -> dict[str, Any]:
    """Run an item in this process; return its figures."""
    import gpu_items

    found: dict[str, Any] = getattr(gpu_items, item.function)(**item.arguments, rehearse=rehearse)
    return found


def apart(item: Item, *, rehearse: bool, path: list[str], seconds: float) -> dict[str, Any]:
    """Run an item in another process with a limit of time; return its figures, or what went wrong."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        if rehearse:
            child = forked(item, out)
        else:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
            order = [sys.executable, __file__, "--item", item.name, "--json", str(out)]
            child = subprocess.Popen(order, env=environment, start_new_session=True, cwd=folder).pid
        found = ended(child, out, seconds)
    return {**found, "seconds": round(time.monotonic() - begun, 1)}


def forked(item: Item, out: Path) -> int:
    """Start an item in a copy of this process, which has loaded torch."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        os.chdir(out.parent)
        write(out, guarded(item, rehearse=True))
    finally:
        os._exit(0)


def guarded(item: Item, *, rehearse: bool) -> dict[str, Any]:
    """Run an item; an error becomes a figure."""
    try:
        return {"status": "ok", **measured(item, rehearse=rehearse)}
    except BaseException as error:
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"[:600], "trace": traceback.format_exc()}


def ended(child: int, out: Path, seconds: float) -> dict[str, Any]:
    """Wait for a process, and end it with all it started when its time is over."""
    until = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"status": "failed", "error": f"it took longer than {seconds:.0f} s"}
        time.sleep(0.05)
    if not out.exists():
        return {"status": "failed", "error": "its process died"}
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)


def machine() -> dict[str, Any]:
    """The card and the versions, for whoever reads the figures."""
    import torch

    there = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if there else f"CPU ({platform.machine()})",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d"),
    }


def installed(wheels: Path) -> str:
    """Install the wheels of a folder, and nothing else, into a temporary one; return it."""
    target = tempfile.mkdtemp(prefix="gpu-wheels-")
    files = [str(path) for path in sorted(wheels.glob("*.whl"))]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, *files], check=True)
    return target


def shown(results: dict[str, Any]) -> str:
    """The figures as a table for people."""
    lines = [f"{'item':38s} {'s':>6s}  figures"]
    for name, found in results["items"].items():
        hidden = ("status", "seconds", "trace", "error")
        figures = ", ".join(f"{key} {value}" for key, value in found.items() if key not in hidden)
        said = figures if found["status"] == "ok" else f"FAILED: {found['error'].splitlines()[0]}"
        lines.append(f"{name:38s} {found['seconds']:6.1f}  {said}")
    return "\n".join([str(results["machine"]), *lines])


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=sorted({item.part for item in ITEMS}), help="all if not given")
    parser.add_argument("--item", help=argparse.SUPPRESS)
    parser.add_argument("--only", help="items whose name contains this")
    parser.add_argument("--rehearse", action="store_true", help="every item on a CPU with tiny sizes")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file that figures are added to")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install into a temporary folder first")
    parser.add_argument("--list", action="store_true", help="list the items")
    arguments = parser.parse_args()
    if arguments.item:
        write(arguments.json, guarded(next(i for i in ITEMS if i.name == arguments.item), rehearse=False))
        return 0
    chosen = [i for i in ITEMS if arguments.part in (None, i.part) and (arguments.only or "") in i.name]
    if arguments.list:
        print("\n".join(f"part {item.part}  at most {item.seconds:3d} s  {item.name}" for item in chosen))
        return 0
    path = [str(ROOT), str(ROOT / "src")]
    if arguments.wheels is not None:
        path.append(installed(arguments.wheels))
        sys.path.append(path[-1])
    if arguments.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        # Loaded once, for all items.
        import gpu_items  # noqa: F401
        import torch._dynamo
        import torch.distributed.fsdp  # noqa: F401
    results: dict[str, Any] = {"items": {}}
    if arguments.json.exists() and not arguments.rehearse:
        results = json.loads(arguments.json.read_text())
    results |= {"machine": machine(), "rehearsal": arguments.rehearse}
    begun, part = time.monotonic(), 0
    for item in chosen:
        if item.part != part:
            begun, part = time.monotonic(), item.part
        left = max(10.0, PART_SECONDS - (time.monotonic() - begun))
        used = rehearsed(item) if arguments.rehearse else item
        limit = min(used.seconds, left)
        results["items"][item.name] = apart(used, rehearse=arguments.rehearse, path=path, seconds=limit)
        write(arguments.json, results)
        print(f"{item.name}: {results['items'][item.name]['status']}", flush=True)
    print(shown(results))
    return int(any(results["items"][item.name]["status"] != "ok" for item in chosen))


if __name__ == "__main__":
    sys.exit(main())
