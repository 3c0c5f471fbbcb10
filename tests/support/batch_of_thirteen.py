"""A tiny model and batch, and its gradients by any number of processes. Run as a program, it is one of them.

`python batch_of_thirteen.py CASES.json OUT.pt` under torchrun's variables computes each case; rank 0 writes.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openwit.training.config import ModelSettings, objective_settings
from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.engine.distributed import Group, process_group
from openwit.training.engine.gradcache import Hooks, backward
from openwit.training.engine.parallel import (
    full_state,
    gradient_norm,
    is_sharded,
    reduce_gradients,
    send_gradients,
    shard,
    whole,
)
from openwit.training.models.clip import Clip
from openwit.training.models.vit import PatchDropoutRng
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.registry import make_objective

TEXT = TextSpec(context_length=8, vocabulary=40, width=16, layers=2, heads=2)
SPEC = ClipSpec(embed_dim=16, vision=VisionSpec(image_size=16, patch_size=4, width=16, layers=2, heads=2), text=TEXT)
RESNET = ClipSpec(embed_dim=16, vision=ResNetSpec(image_size=32, layers=(1, 1, 1, 1), width=4, heads=2), text=TEXT)
CONVOLUTIONS = SPEC.model_copy(
    update={"vision": VisionSpec(image_size=16, patch_size=4, width=16, layers=2, heads=2, stem="convolutions")}
)
CPU = torch.device("cpu")


def make_model(objective: str = "contrastive", spec: ClipSpec = SPEC) -> Any:
    torch.manual_seed(5)
    dropout = 0.5 if spec is SPEC else 0.0
    if objective == "contrastive_captioning":
        return objective_of(objective).build_model(ModelSettings(spec=spec, patch_dropout=dropout)).train()
    return Clip(spec, dropout, init_logit_bias=-10.0 if objective == "sigmoid" else None).train()


def make_batch(size: int = 13, image_size: int = 16) -> Inputs:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(size, 3, image_size, image_size, generator=generator)
    tokens = torch.randint(1, 30, (size, 8), generator=generator)
    tokens[:, 6] = 39
    tokens[4::3, 3] = 39  # texts of two lengths; what follows an end is seen by none
    tokens[2] = tokens[1]
    return Inputs(images, tokens)


def autocast(dtype: torch.dtype | None = None) -> torch.autocast:
    return torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def objective_of(name: str) -> Any:
    if name == "same_text":
        return make_objective(objective_settings(positives="same_text"))
    return make_objective(objective_settings(name))


def gradients(case: dict[str, Any], group: Group | None = None) -> dict[str, Tensor]:
    """Every parameter's gradient, the loss and the norm, for a case of objective, chunk, strategy, bounds."""
    if "own" in case:
        from support import own_model

        return own_model.run(case, group)[0]
    if "tower" in case:
        from support.option_products import run  # which needs this module

        return run(case, group)
    model = make_model(case["objective"])
    if group is not None and case.get("strategy") == "fsdp":
        shard(model, CPU, group=group, lowered=None)
        assert all(is_sharded(p) for tower in (model.visual, model.text) for p in tower.parameters())
    bounds = case.get("bounds", [0, 13])
    rank = 0 if group is None else group.rank
    first, stop = bounds[rank], bounds[rank + 1]

    def before(start: int) -> None:
        if group is not None:
            send_gradients(model, False)
        model.visual.patch_dropout_rng = PatchDropoutRng(11, first + start)

    def last() -> None:
        if group is not None:
            send_gradients(model, True)

    chunk = case.get("chunk")
    most = max((b - a for a, b in itertools.pairwise(bounds)), default=1)
    hooks = Hooks(before, last, 1 if chunk is None else -(-most // chunk))
    inputs = make_batch().chunk(first, stop)
    loss = backward(
        objective_of(case["objective"]), model, inputs, autocast=autocast(), chunk=chunk, group=group, hooks=hooks
    )
    value = loss.value
    if group is not None:
        reduce_gradients(model, group)
        value = group.sum(value)
    found = {name: whole(p.grad) for name, p in model.named_parameters()}
    assert full_state(model).keys() == make_model(case["objective"]).state_dict().keys()
    return {**found, "loss": value, "norm": gradient_norm(model.parameters(), group)}


def relative_error(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of the whole gradient, and of the loss; the larger."""
    names = [name for name in one if name not in ("loss", "norm")]
    difference = torch.stack([(one[n].double() - other[n].double()).norm() for n in names]).norm()
    size = torch.stack([other[n].double().norm() for n in names]).norm()
    loss = (one["loss"] - other["loss"]).abs() / other["loss"].abs()
    return float(max(difference / size, loss))


def parameters_without_gradient(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.grad is None]


def main() -> None:
    torch.set_num_threads(1)
    cases = json.loads(Path(sys.argv[1]).read_text())
    with process_group("cpu", 1) as group:
        answers = [gradients(case, group) for case in cases]
        if group is None or group.main:
            torch.save(answers, sys.argv[2])


if __name__ == "__main__":
    main()
