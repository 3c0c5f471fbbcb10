"""Time of a training step beside open_clip: the same model, weights, batch, precision and optimiser.

    python benchmarks/train_step.py --rounds 7                # on a CPU: the cases of CPU_CASES
    python benchmarks/train_step.py --only ViT-B/32           # cases of one model
    python benchmarks/train_step.py --json steps.json         # figures to a file as well

A step is everything from tensors on the device to moved weights: both towers forward, the loss over the batch,
backward, the gradient's norm (ours only), AdamW, the clamp of the logit scale. Ours is `training.engine.step.Stepper`,
as `wit-train fit` runs it; open_clip's is its `CLIP`, its `ClipLoss` and the groups of its AdamW, fused like ours (it
does not fuse by itself). Both run in this process and so under the same settings of threads and allocator. Losses of
the first step must be equal, or the script ends. Rounds are interleaved; medians of CPU and wall seconds and of their
ratios (open_clip / ours) are printed.

`full`: texts fill the context for both. `trimmed`: ours has them as its loader gives them, cut after the longest of
the batch; open_clip always computes the whole context.

Where there is a GPU, the cases are bf16 with and without torch.compile, MFU is printed, and batch 32,768 runs on one
GPU by GradCache; open_clip tries it in one piece, and the script says so where its memory does not suffice.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# As the command does: threads that wait must sleep, or their spinning counts as CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.open_clip import imported

from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.config.zoo import ClipSpec, VisionSpec, spec_of
from openwit.training.engine.build_model import build_model
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.engine.step import Stepper
from openwit.training.models.clip import Clip
from openwit.training.models.flops import FORWARD_AND_BACKWARD, image_flops, peak_flops, text_flops
from openwit.training.models.weights import to_open_clip
from openwit.training.objectives.registry import make_objective

LR = 1e-5
LONGEST = 20  # tokens of the longest caption of a trimmed batch; alt texts are seldom longer


class Case(NamedTuple):
    """A comparison."""

    model: str
    batch: int
    tokens: str  # full or trimmed
    compile: bool = False
    chunk: int | None = None

    @property
    def name(self) -> str:
        extra = (", compiled" if self.compile else "") + (f", chunk {self.chunk}" if self.chunk else "")
        return f"{self.model}, batch {self.batch}, {self.tokens}{extra}"


CPU_CASES = [
    Case("vit-tiny-64", 64, "full"),
    Case("vit-tiny-64", 64, "trimmed"),
    Case("ViT-B/32", 8, "full"),
    Case("ViT-B/32", 8, "trimmed"),
]
GPU_CASES = [
    *(
        Case(model, batch, "full", compiled)
        for model, batch in (("ViT-B/32", 1024), ("ViT-B/16", 512), ("ViT-L/14", 256))
        for compiled in (False, True)
    ),
    Case("ViT-B/32", 1024, "trimmed", True),
    Case("ViT-B/32", 32_768, "full", True, 1024),
]


class Timed(NamedTuple):
    """Seconds of a step."""

    cpu: float
    wall: float


Step = Callable[[], Tensor]


def batch_of(case: Case, spec: ClipSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise for images (B, 3, H, W), and token ids (B, context) that end at the context's end or before `LONGEST`."""
    generator = torch.Generator().manual_seed(1)
    size, length = spec.vision.image_size, spec.text.context_length
    # One piece of noise many times over, as 32,768 images would take long to draw.
    piece = torch.randn(min(case.batch, 256), 3, size, size, generator=generator).to(device)
    images = piece.repeat(-(-case.batch // len(piece)), 1, 1, 1)[: case.batch].contiguous()
    filled = length if case.tokens == "full" else LONGEST
    tokens = torch.zeros(case.batch, length, dtype=torch.int64)
    tokens[:, :filled] = torch.randint(1, 49_000, (case.batch, filled), generator=generator)
    tokens[:, 0], tokens[:, filled - 1] = 49_406, 49_407
    return images, tokens.to(device)


def ours(case: Case, device: torch.device, images: Tensor, tokens: Tensor) -> tuple[Step, dict[str, Tensor]]:
    """A step as `wit-train fit` makes it, and the model's weights under open_clip's names."""
    raw = {
        "run": "unused",
        "data": {"dataset": "unused", "batch_size": case.batch},
        "model": {"name": case.model},
        "schedule": {"duration": "1 steps"},
        "memory": {"chunk": case.chunk},
        "speed": {"compile": case.compile},
    }
    config = parse_settings(raw, TrainConfig, "benchmark")
    objective = make_objective(config.objective)
    model = build_model(config, objective, device=device)
    assert isinstance(model, Clip)
    weights = {name: value.detach().clone() for name, value in to_open_clip(model).items()}
    autocast = make_autocast(device, config.precision)
    stepper = Stepper(config, model, objective=objective, device=device, autocast=autocast, group=None)
    given = tokens[:, :LONGEST] if case.tokens == "trimmed" else tokens
    number = 0

    def step() -> Tensor:
        nonlocal number
        figures = stepper.forward_backward(images, given, step=number, rank_sizes=[len(images)])
        stepper.step(figures, step=number, lr=LR)
        number += 1
        return figures["loss"]

    return step, weights


def theirs(
    case: Case, spec: ClipSpec, device: torch.device, images: Tensor, tokens: Tensor, weights: dict[str, Tensor]
) -> Step:
    """open_clip's step, with its model of the same sizes and weights."""
    with imported() as open_clip:
        from open_clip.loss import ClipLoss
        from open_clip.model import CLIP
    assert open_clip is not None
    assert isinstance(spec.vision, VisionSpec)
    vision = {
        "layers": spec.vision.layers,
        "width": spec.vision.width,
        "head_width": spec.vision.width // spec.vision.heads,
        "patch_size": spec.vision.patch_size,
        "image_size": spec.vision.image_size,
    }
    text = {
        "context_length": spec.text.context_length,
        "vocab_size": spec.text.vocabulary,
        "width": spec.text.width,
        "heads": spec.text.heads,
        "layers": spec.text.layers,
    }
    model = CLIP(spec.embed_dim, vision, text, quick_gelu=spec.quick_gelu).to(device).train()
    model.load_state_dict(weights)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    chosen = {id(p) for p in plain}
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": [p for _, p in named if id(p) not in chosen], "weight_decay": 0.2},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.98), eps=1e-6, fused=True)
    criterion = ClipLoss(cache_labels=True)
    forward: Any = torch.compile(model) if case.compile else model
    autocast = make_autocast(device, "auto")

    def step() -> Tensor:
        optimizer.zero_grad()
        with autocast:
            image_features, text_features, logit_scale = forward(images, tokens)
            loss: Tensor = criterion(image_features, text_features, logit_scale)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return loss.detach()

    return step


def timed(step: Step, times: int, device: torch.device) -> Timed:
    """Mean seconds of a step over so many of them."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Timed((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)


def tried(make: Callable[[], Step], warm: int) -> tuple[Step | None, float]:
    """A step that has run `warm` times, and its first loss; None where memory does not suffice."""
    try:
        step = make()
        losses = [float(step()) for _ in range(warm)]
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None, math.nan
    return step, losses[0]


def compared(case: Case, device: torch.device, rounds: int, times: int) -> dict[str, Any]:
    """Medians of a case."""
    spec = spec_of(case.model)
    images, tokens = batch_of(case, spec, device)
    step, weights = ours(case, device, images, tokens)
    mine, loss = tried(lambda: step, 3)
    other, other_loss = tried(lambda: theirs(case, spec, device, images, tokens, weights), 3)
    assert mine is not None, f"{case.name}: not enough memory"
    tolerance = 1e-4 if device.type == "cpu" else 3e-2
    assert other is None or abs(loss - other_loss) < tolerance * abs(loss), (case.name, loss, other_loss)
    found: list[tuple[Timed, Timed | None]] = []
    for _ in range(rounds):
        first = timed(mine, times, device)
        found.append((first, timed(other, times, device) if other is not None else None))
    result: dict[str, Any] = {"case": case.name, "loss": loss}
    for number, kind in enumerate(Timed._fields):
        result[f"ours_{kind}"] = statistics.median(a[number] for a, _ in found)
        if other is not None:
            result[f"open_clip_{kind}"] = statistics.median(b[number] for _, b in found if b is not None)
            result[f"ratio_{kind}"] = statistics.median(b[number] / a[number] for a, b in found if b is not None)
    if device.type == "cuda":
        peak = peak_flops(torch.cuda.get_device_name(device))
        length = spec.text.context_length if case.tokens == "full" else LONGEST
        work = FORWARD_AND_BACKWARD * case.batch * (image_flops(spec) + text_flops(spec, length))
        result["mfu"] = None if peak is None else work / result["ours_wall"] / peak
        result["memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        torch.cuda.reset_peak_memory_stats(device)
    return result


def shown(result: dict[str, Any]) -> str:
    """A line for people."""
    line = f"{result['case']:46s} ours {result['ours_cpu']:.3f} CPU s, {result['ours_wall']:.3f} s"
    if "open_clip_cpu" in result:
        line += f"; open_clip {result['open_clip_cpu']:.3f} CPU s, {result['open_clip_wall']:.3f} s"
        line += f"; ratio {result['ratio_cpu']:.2f} CPU, {result['ratio_wall']:.2f} wall"
    else:
        line += "; open_clip: out of memory"
    if result.get("mfu") is not None:
        line += f"; MFU {100 * result['mfu']:.1f} %, {result['memory_gib']:.1f} GiB"
    return line


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=2, help="steps timed together")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", help="model of the cases to run")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    cases = GPU_CASES if device.type == "cuda" else CPU_CASES
    results = []
    with cpu_prepared(arguments.threads) as threads:
        print(f"torch {torch.__version__}, {device}, {threads} CPU threads", flush=True)
        for case in cases:
            if arguments.only in (None, case.model):
                results.append(compared(case, device, arguments.rounds, arguments.times))
                print(shown(results[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
