"""Two training steps with any product of the options that decide how a step is computed; in one process or several."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from support import batch_of_thirteen as tiny
from torch import Tensor, nn

from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.data.sampling import bounds
from openwit.training.data.transforms import normalise
from openwit.training.engine.build_model import build_model
from openwit.training.engine.distributed import Group
from openwit.training.engine.gradcache import chunks_of
from openwit.training.engine.parallel import full_state
from openwit.training.engine.runtime import make_autocast
from openwit.training.engine.step import Stepper
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.registry import make_objective

FACTORS: dict[str, tuple[Any, ...]] = {
    "strategy": ("fsdp", "replicate", None),
    "tower": ("vit", "resnet"),
    "precision": ("bf16", "fp16", "fp32"),
    "compile": (True, False),
    "recompute": (True, False),
    "channels_last": (True, False),
    "chunk": (4, None),
    "objective": ("contrastive", "sigmoid"),
    "grad_clip": (1.0, None),
    "ema": (0.9, None),
    "skip_unused": (True, False),
}
PLAIN = {
    "strategy": None,
    "compile": False,
    "recompute": False,
    "channels_last": False,
    "ema": None,
    "skip_unused": False,
}


DEFAULTS = {name: values[-1] for name, values in FACTORS.items()}
GPU = {"channels_last": True, "precision": "bf16"}
FAST: list[dict[str, Any]] = [
    {**DEFAULTS, **GPU, "strategy": "fsdp", "tower": "vit", "chunk": 4, "ema": 0.9, "skip_unused": True},
    {**DEFAULTS, **GPU, "strategy": "fsdp", "tower": "resnet", "recompute": True},
    {**DEFAULTS, **GPU, "strategy": "fsdp", "tower": "vit", "chunk": 4, "ema": 0.9, "recompute": True}
    | {"objective": "contrastive_captioning"},
    {**DEFAULTS, **GPU, "strategy": "replicate", "tower": "resnet", "precision": "fp16", "chunk": 4},
]


def pairwise(factors: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A set of cases in which each value of each option meets each value of each other one; nearly the smallest."""
    names = list(factors)
    left = {
        (a, x, b, y) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]
    }  # fmt: skip
    cases = [dict(zip(names, values, strict=True)) for values in itertools.product(*factors.values())]

    pairs = [{(a, case[a], b, case[b]) for a, b in itertools.combinations(names, 2)} for case in cases]
    chosen = []
    while left:
        best = max(range(len(cases)), key=lambda number: len(pairs[number] & left))
        chosen.append(cases[best])
        left -= pairs[best]
    return chosen


def config_of(case: dict[str, Any]) -> TrainConfig:
    spec = tiny.RESNET if case["tower"] == "resnet" else tiny.SPEC
    dropout = 0.5 if case["tower"] == "vit" else 0.0
    raw = {
        "run": "unused",
        "device": "cpu",
        "precision": case["precision"],
        "data": {"dataset": "unused", "batch_size": 13},
        "model": {"spec": spec.model_dump(mode="json"), "patch_dropout": dropout},
        "objective": {"name": case["objective"]},
        "optim": {"lr": 1e-3, "grad_clip": case["grad_clip"]},
        "schedule": {"duration": "9 steps"},
        "memory": {"chunk": case["chunk"], "checkpoint_activations": case["recompute"]},
        "speed": {name: case[name] for name in ("compile", "channels_last", "skip_unused")},
        "distributed": {"strategy": case["strategy"] or "replicate"},
        "ema": {"decay": case["ema"]},
    }
    return parse_settings(raw, TrainConfig, "case")


def stepper_of(case: dict[str, Any], group: Group | None) -> tuple[Stepper, nn.Module]:
    config = config_of(case)
    objective = make_objective(config.objective)
    model = build_model(config, objective, device=tiny.CPU, group=group)
    autocast = make_autocast(tiny.CPU, config.precision)
    stepper = Stepper(
        config, model, objective=objective, device=tiny.CPU, autocast=autocast, group=group, normaliser=normalise
    )
    return stepper, model


def samples_of(case: dict[str, Any]) -> int:
    """An uneven number; but batch normalisation needs two samples in each chunk."""
    return 12 if case["tower"] == "resnet" else 13


def batch_of(case: dict[str, Any]) -> Inputs:
    """Images as bytes, as the loader makes them."""
    images, tokens = tiny.make_batch(samples_of(case), 32 if case["tower"] == "resnet" else 16)
    pixels = ((images.clamp(-2, 2) + 2) * 63).to(torch.uint8)
    return Inputs(pixels.permute(0, 2, 3, 1), tokens)


def run(case: dict[str, Any], group: Group | None = None) -> dict[str, Tensor]:
    """Weights and losses of two steps; between them the state goes to a new model, stored in the other layout."""
    if case["strategy"] is None:
        group = None
    rank, world = (0, 1) if group is None else (group.rank, group.size)
    places = [bounds(samples_of(case), each, world) for each in range(world)]
    inputs, exchanges, found = batch_of(case).chunk(*places[rank]), 0, {}

    def agree(size: int) -> list[int]:
        return [size] if group is None else group.all_gather_ints(size)

    if group is not None:
        exchange = group.all_gather_rows

        def counted(row: list[int]) -> list[list[int]]:
            nonlocal exchanges
            exchanges += 1
            return exchange(row)

        group.all_gather_rows = counted  # type: ignore[method-assign]
    with front_end_only():
        stepper, model = stepper_of(case, group)
        for step in range(2):
            figures = stepper.gradients(
                chunks_of(inputs, case["chunk"]),
                step=step,
                first=places[rank][0],
                chunks=[-(-(stop - start) // (case["chunk"] or 99)) for start, stop in places],
                agree=agree,
            )
            assert tiny.parameters_without_gradient(model) == []
            stepper.step(figures, step=step, lr=1e-3)
            found[f"loss {step}"] = figures["loss"]
            if step == 0:
                state = stepper.state()
                stepper, model = stepper_of({**case, "channels_last": not case["channels_last"]}, group)
                stepper.restore(state)
    if group is not None:
        assert exchanges == 2, f"{exchanges} exchanges between hosts in two steps"
        del group.all_gather_rows
    torch._dynamo.reset()
    return {**found, **{name: tensor.clone() for name, tensor in full_state(model).items()}}


@contextmanager
def front_end_only(backend: str = "aot_eager") -> Iterator[None]:
    """Compile with everything but the generation of code, which takes a minute; `eager`: with dynamo alone."""
    original = nn.Module.compile

    def compiled(self: nn.Module, *, mode: str, dynamic: bool) -> None:  # noqa: ARG001
        original(self, backend=backend, dynamic=dynamic)

    nn.Module.compile = compiled  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.compile = original  # type: ignore[method-assign]


def is_comparable(case: dict[str, Any]) -> bool:
    """Whether one plain process computes the same: batch normalisation sees a process's part only."""
    return case["tower"] == "vit" or case["strategy"] is None


def name_of(case: dict[str, Any]) -> str:
    """The options of a case that are set."""
    return " ".join(f"{name}={value}" for name, value in case.items() if value not in (None, False))


def check(case: dict[str, Any], found: dict[str, Tensor]) -> None:
    """Compare with a plain process of the same precision and chunks."""
    plain = run({**case, **PLAIN})
    assert found.keys() == plain.keys()
    assert all(tensor.isfinite().all() for tensor in found.values())
    if not is_comparable(case):
        return
    lowered = case["precision"] != "fp32"
    for name, tensor in plain.items():
        # A step of AdamW is of about the learning rate, whatever the gradient's size: near zero its sign is rounding.
        margin = {"rtol": 3e-2, "atol": 1e-2} if name.startswith("loss") and lowered else {"rtol": 1e-3, "atol": 1e-4}
        if not name.startswith("loss"):
            margin = {"rtol": 0, "atol": 4.1e-3 if tensor.is_floating_point() else 0}
            # A key's bias has no gradient but rounding, of which AdamW makes steps.
            if not lowered and not name.endswith(("in_proj_bias", "k_proj.bias")):
                assert ((found[name] - tensor).abs() > 1e-4).float().mean() < 0.02, name
        torch.testing.assert_close(found[name], tensor, msg=f"{name}: {name_of(case)}", **margin)
