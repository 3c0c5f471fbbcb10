"""The measurements of gpu.py. Each function returns figures as JSON data; see its first line for what they are."""

import gc
import io
import json
import statistics
import sys
import tarfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

if "pytest" not in sys.modules:
    try:
        import pytest  # noqa: F401
    except ImportError:
        # Of the tests' stand-in for torchvision only `skip` is used, which ends the import of open_clip.
        def skip(reason: str) -> None:
            raise RuntimeError(reason)

        stub = types.ModuleType("pytest")
        stub.skip = skip  # type: ignore[attr-defined]
        sys.modules["pytest"] = stub

import train_step
from train_step import Case, batch_of, timed

from openwit.schemas.common.settings import apply_override, parse_settings
from openwit.training.config import TrainConfig
from openwit.training.config.zoo import ClipSpec, spec_of
from openwit.training.engine.build_model import build_model
from openwit.training.engine.distributed import Group
from openwit.training.engine.fp8 import use_fp8
from openwit.training.engine.runtime import make_autocast, pick_device
from openwit.training.engine.step import Stepper
from openwit.training.models.flops import FORWARD_AND_BACKWARD, image_flops, peak_flops, text_flops
from openwit.training.objectives.registry import make_objective
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.progress import SilentDisplay


def step(model: str, batch: int, rehearse: bool) -> dict[str, Any]:
    """Seconds of a step, samples/s and MFU in bf16 with compile, beside open_clip on this machine."""
    device, spec = pick_device("auto"), spec_of(model)
    case = Case(model, batch, "full", compile=not rehearse)
    images, tokens = batch_of(case, spec, device)
    mine, weights = train_step.ours(case, device, images, tokens)
    losses = [float(mine()) for _ in range(3)]
    times = [timed(mine, 5, device).wall for _ in range(3)]
    seconds = statistics.median(times)
    found = {
        "step_ms": round(1e3 * seconds, 2),
        "samples_per_second": round(batch / seconds),
        "loss": round(losses[0], 4),
    }
    found |= {"loss": round(losses[0], 4), "mfu": mfu(spec, batch, seconds, device), "memory_gib": memory(device)}
    del mine
    try:
        other = train_step.theirs(case, spec, device, images, tokens, weights)
    except BaseException as error:  # pytest's skip is none of Exception
        return {**found, "open_clip": f"missing ({str(error)[:120]})"}
    others = [float(other()) for _ in range(3)]
    theirs = statistics.median(timed(other, 5, device).wall for _ in range(3))
    return {
        **found,
        "open_clip_ms": round(1e3 * theirs, 2),
        "times_as_fast": round(theirs / seconds, 3),
        "open_clip_loss": round(others[0], 4),
    }


def gradcache(model: str, batch: int, chunk: int, rehearse: bool) -> dict[str, Any]:
    """Seconds of a step of a whole batch in chunks, with peak memory."""
    device, spec = pick_device("auto"), spec_of(model)
    stepper, _ = stepper_of({"model.name": model, "data.batch_size": batch, "memory.chunk": chunk}, device)
    images, tokens = batch_of(Case(model, batch, "full"), spec, device)
    run = runner(stepper, images, tokens)
    loss = float(run())
    seconds = timed(run, 1, device).wall
    return {
        "step_s": round(seconds, 3),
        "samples_per_second": round(batch / seconds),
        "mfu": mfu(spec, batch, seconds, device),
        "memory_gib": memory(device),
        "batch_itself_gib": round(images.numel() * images.element_size() / 2**30, 2),
        "loss": round(loss, 4),
        "compiled": False,
        "rehearsed": rehearse,
    }


def gradients(model: str, batch: int, chunk: int, rehearse: bool) -> dict[str, Any]:  # noqa: ARG001
    """Relative error of the gradients of chunks against those of the undivided batch, in float32 and bf16."""
    device, spec = pick_device("auto"), spec_of(model)
    images, tokens = batch_of(Case(model, batch, "full"), spec, device)
    found: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        sides = []
        for size in (None, chunk):
            settings = {"model.name": model, "data.batch_size": batch, "memory.chunk": size, "precision": precision}
            stepper, module = stepper_of(settings, device)
            stepper.forward_backward(images, tokens, step=0, rank_sizes=[batch])
            sides.append([p.grad.detach().float().cpu() for p in module.parameters() if p.grad is not None])
            del stepper, module
            gc.collect()
        difference = torch.stack([(a - b).norm() for a, b in zip(*sides, strict=True)]).norm()
        found[f"error_{precision}"] = float(difference / torch.stack([a.norm() for a in sides[0]]).norm())
    return found


def starts(options: dict[str, Any], rehearse: bool) -> dict[str, Any]:
    """Whether a strategy or option trains three steps, and its losses."""
    device = pick_device("auto")
    batch = 8 if rehearse else 64
    settings = {"model.name": "vit-pico-64" if rehearse else "ViT-B/32", "data.batch_size": batch, **options}
    group = None
    if options.get("distributed.strategy") == "fsdp":
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        group = Group(0, 1)
    stepper, module = stepper_of(settings, device, group)
    size = module.inputs.image_size
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    tokens = torch.zeros(batch, module.inputs.context_length, dtype=torch.int64)
    tokens[:, :12] = torch.randint(1, 49_000, (batch, 12), generator=torch.Generator().manual_seed(2))
    tokens[:, 0], tokens[:, 11] = 49_406, 49_407
    run = runner(stepper, images, tokens.to(device))
    losses = [float(run()) for _ in range(3)]
    if not all(np.isfinite(losses)):
        raise ValueError(f"losses {losses}")
    return {"losses": [round(loss, 4) for loss in losses]}


def loader(model: str, batch: int, steps: int, samples: int, rehearse: bool) -> dict[str, Any]:
    """Share of the time that the running loop waits for the loader, by threads."""
    tar = written_tar(Path("samples.tar"), samples, 64 if rehearse else 256)
    found: dict[str, Any] = {}
    for workers in (2,) if rehearse else (8, 16):
        run = f"run-{workers}"
        trained(model, batch, steps, tar, run=run, settings={"data.workers": workers, "data.prefetch": 2 * workers})
        records = [record for record in read_metrics(Path(run)) if record["kind"] == "train"][steps // 4 :]
        found[f"wait_{workers}_threads"] = round(statistics.mean(r["loader_wait"] for r in records), 3)
        found[f"samples_per_second_{workers}"] = round(statistics.median(r["samples_per_second"] for r in records))
    return found


def checkpoint(model: str, batch: int, steps: int, rehearse: bool) -> dict[str, Any]:
    """Seconds that a checkpoint keeps training waiting, written in the background and not."""
    tar = written_tar(Path("samples.tar"), 4 * batch, 64 if rehearse else 256)
    found: dict[str, Any] = {}
    for background in (True, False):
        run = f"run-{background}"
        every = {"checkpoint.every": f"{steps // 4} steps", "checkpoint.background": background}
        trained(model, batch, steps, tar, run=run, settings=every)
        spent = next(record for record in read_metrics(Path(run)) if record["kind"] == "time")
        found["stall_background_s" if background else "stall_waiting_s"] = round(spent["checkpoint"] / 4, 3)
    written = max(Path("run-True/checkpoints").glob("*.pt"))
    return {**found, "file_mib": round(written.stat().st_size / 2**20, 1)}


def kernels(model: str, batch: int, rehearse: bool) -> dict[str, Any]:
    """Attention kernels that a step reaches, and the share of its time in which the device computes nothing."""
    from torch.profiler import ProfilerActivity, profile

    device, spec = pick_device("auto"), spec_of(model)
    stepper, _ = stepper_of({"model.name": model, "data.batch_size": batch}, device)
    run = runner(stepper, *batch_of(Case(model, batch, "full"), spec, device))
    for _ in range(3):
        run()
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        run()
        if on_gpu:
            torch.cuda.synchronize()
    names = {event.name for event in seen.events()}
    attention = sorted(name for name in names if any(part in name.lower() for part in ("flash", "fmha", "sdpa")))
    found: dict[str, Any] = {"attention": [name[:70] for name in attention], "flash": bool(attention)}
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if str(event.device_type).endswith("CUDA")
    )
    if spans:
        busy, until = 0.0, spans[0][0]
        for start, stop in spans:
            busy += max(0.0, stop - max(start, until))
            until = max(until, stop)
        found["idle_between_kernels"] = round(1 - busy / (until - spans[0][0]), 4)
    return {**found, "rehearsed": rehearse}


def fp8(model: str, batch: int, steps: int, rehearse: bool) -> dict[str, Any]:
    """Loss and seconds of a step with the linear layers of blocks in fp8 (`speed.fp8`), beside bf16.

    Off a GPU the setting is refused: then the same layers compute the same products of the same rounded numbers.
    """
    device, spec = pick_device("auto"), spec_of(model)
    images, tokens = batch_of(Case(model, batch, "full"), spec, device)
    found: dict[str, Any] = {"scaled_mm": device.type == "cuda"}
    for name in ("bf16", "fp8"):
        settings = {"model.name": model, "data.batch_size": batch, "precision": "bf16", "speed.compile": not rehearse}
        on_gpu = device.type == "cuda"
        settings["speed.fp8"] = on_gpu and name == "fp8"
        stepper, _ = stepper_of(settings, device, change=use_fp8 if name == "fp8" and not on_gpu else None)
        run = runner(stepper, images, tokens)
        losses = [float(run()) for _ in range(steps)]
        found[f"{name}_ms"] = round(1e3 * timed(run, 3, device).wall, 2)
        found[f"{name}_losses"] = [round(losses[place], 4) for place in (0, steps // 2, -1)]
    return found


def config_of(settings: dict[str, Any]) -> TrainConfig:
    """A configuration from dotted keys."""
    raw: dict[str, Any] = {"run": "unused", "schedule": {"duration": "9 steps"}, "eval": {"split": None}}
    for key, value in settings.items():
        apply_override(raw, f"{key}={json.dumps(value)}")
    if "tars" not in raw.get("data", {}):
        raw.setdefault("data", {})["dataset"] = "unused"
    return parse_settings(raw, TrainConfig, "benchmark")


def stepper_of(
    settings: dict[str, Any], device: torch.device, group: Group | None = None, change: Any = None
) -> tuple[Stepper, Any]:
    """What `wit-train fit` makes of these settings, and its model; `change` is applied before it is compiled."""
    config = config_of(settings)
    objective = make_objective(config.objective)
    if change is not None:
        build = objective.build_model

        def changed(settings: Any) -> nn.Module:
            made: nn.Module = build(settings)
            change(made)
            return made

        objective.build_model = changed  # type: ignore[method-assign]
    model = build_model(config, objective, device=device, group=group)
    autocast = make_autocast(device, config.precision)
    return Stepper(config, model, objective=objective, device=device, autocast=autocast, group=group), model


def runner(stepper: Stepper, images: Tensor, tokens: Tensor) -> Any:
    """One more step a call; returns its loss on the device."""
    number = 0

    def run() -> Tensor:
        nonlocal number
        metrics = stepper.forward_backward(images, tokens, step=number, rank_sizes=[len(images)])
        stepper.step(metrics, step=number, lr=1e-5)
        number += 1
        return metrics["loss"]

    return run


def trained(model: str, batch: int, steps: int, tar: Path, *, run: str, settings: dict[str, Any]) -> None:
    """A whole run of `wit-train fit` on a tar."""
    base = {
        "run": run,
        "data.tars": [str(tar)],
        "data.batch_size": batch,
        "model.name": model,
        "schedule.duration": f"{steps} steps",
        "log.every": 1,
        "log.tensorboard": False,
    }
    fit(config_of({**base, **settings}), display=SilentDisplay())


def written_tar(path: Path, samples: int, side: int) -> Path:
    """A WebDataset tar of pictures of smooth noise, JPEGs as a dataset has them."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(min(samples, 64)):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    with tarfile.open(path, "w") as tar:
        for number in range(samples):
            for suffix, data in (("jpg", made[number % len(made)]), ("txt", f"picture number {number}".encode())):
                info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path.absolute()


def mfu(spec: ClipSpec, batch: int, seconds: float, device: torch.device) -> float | None:
    """Share of the card's dense bf16 peak; None where it is not known."""
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    work = FORWARD_AND_BACKWARD * batch * (image_flops(spec) + text_flops(spec, spec.text.context_length))
    return None if peak is None else round(work / seconds / peak, 4)


def memory(device: torch.device) -> float | None:
    """Peak memory on the device in GiB."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None
