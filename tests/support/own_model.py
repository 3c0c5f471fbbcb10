"""A custom model with blocks, and its gradients with any of the options that need them."""

import itertools
from typing import Any

import torch
from support import batch_of_thirteen as tiny
from torch import Tensor, nn

from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.engine.build_model import build_model
from openwit.training.engine.distributed import Group
from openwit.training.engine.parallel import full_state
from openwit.training.engine.runtime import make_autocast
from openwit.training.engine.step import Stepper
from openwit.training.objectives.registry import make_objective


class Layer(nn.Module):
    """Counts how often it is computed, in Python, so that recomputation shows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.calls = 0

    def forward(self, x: Tensor, *, gain: float) -> Tensor:
        """A residual layer."""
        if not torch.compiler.is_compiling():
            self.calls += 1
        return x + gain * torch.tanh(self.linear(x))


class Towers(nn.Module):
    """Two towers of layers, a single number among the parameters, and their blocks."""

    def __init__(self, image_size: int, vocabulary: int, width: int = 8) -> None:
        super().__init__()
        self.image, self.words = nn.Linear(3 * image_size**2, width), nn.EmbeddingBag(vocabulary, width, padding_idx=0)
        self.left, self.right = (nn.ModuleList(Layer(width) for _ in range(2)) for _ in range(2))
        self.gain = nn.Parameter(torch.tensor(1.0))

    def blocks(self) -> list[nn.Module]:
        """See docs/extending.md."""
        return [*self.left, *self.right]

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, width)."""
        x = self.image(images.flatten(1))
        for layer in self.left:
            x = layer(x, gain=0.5)
        return x * self.gain

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, width)."""
        x = self.words(tokens)
        for layer in self.right:
            x = layer(x, gain=0.5)
        return x


class Within(Towers):
    """Names a block within another."""

    def blocks(self) -> list[nn.Module]:
        """See the class."""
        return [self.left, self.left[0]]


def config_of(case: dict[str, Any]) -> TrainConfig:
    """Options of a case: strategy, compile, recompute, chunk, name."""
    raw = {
        "run": "unused",
        "device": "cpu",
        "precision": "fp32",
        "data": {"dataset": "unused", "batch_size": 13},
        "model": {"name": f"support.own_model.{case.get('name', 'Towers')}", "image_size": 16, "vocabulary": 40},
        "optim": {"lr": 1e-3},
        "schedule": {"duration": "9 steps"},
        "memory": {"chunk": case.get("chunk"), "checkpoint_activations": case.get("recompute", False)},
        "speed": {"compile": case.get("compile", False), "compile_mode": case.get("mode", "default")},
        "distributed": {"strategy": case.get("strategy", "replicate")},
    }
    return parse_settings(raw, TrainConfig, "case")


def run(case: dict[str, Any], group: Group | None = None) -> tuple[dict[str, Tensor], list[int]]:
    """Weights and loss after two steps, and the calls of each layer."""
    config = config_of(case)
    objective = make_objective(config.objective)
    model: Any = build_model(config, objective, device=tiny.CPU, group=group)
    stepper = Stepper(
        config, model, objective=objective, device=tiny.CPU, autocast=make_autocast(tiny.CPU, "fp32"), group=group,
        normaliser=None,
    )  # fmt: skip
    batch = tiny.make_batch()
    bounds = [0, 13] if group is None else [0, 6, 13]
    rank = 0 if group is None else group.rank
    part = batch.chunk(bounds[rank], bounds[rank + 1])
    sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
    found: dict[str, Tensor] = {}
    for step in range(2):
        figures = stepper.forward_backward(part.images, part.tokens, step=step, rank_sizes=sizes)
        stepper.step(figures, step=step, lr=1e-3)
        found[f"loss {step}"] = figures["loss"]
    calls = [layer.calls for layer in model.towers.blocks()]
    return {**found, **{name: tensor.clone() for name, tensor in full_state(model).items()}}, calls
