"""Build the model of a run: memory layout, recomputation, compilation and sharding, in this order."""

from typing import Any

import torch
from torch import nn

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, TrainConfig
from openwit.training.engine.distributed import Group
from openwit.training.engine.parallel import shard
from openwit.training.engine.runtime import lowered_dtype, set_matmul_precision
from openwit.training.models.blocks import Block, Transformer
from openwit.training.models.resnet import Bottleneck, ResNet
from openwit.training.models.vit import VisionTransformer
from openwit.training.objectives.base import Objective

# Input shapes of a compiled tower: text lengths times chunk sizes, with and without gradients.
COMPILED_SHAPES = 64


def build_model(
    config: TrainConfig, objective: Objective, *, device: torch.device, group: Group | None = None
) -> nn.Module:
    """Return a new model, ready to train, with weights initialised from the seed.

    Every rank draws the same weights and keeps its shards of them.

    Raises:
        RecipeError: the model cannot be built, or a setting does not apply to it.
    """
    _check(config, objective)
    set_matmul_precision(config.speed.tf32)
    torch.manual_seed(config.seed)
    model = objective.build_model(config.model).to(device)
    channels_last = config.speed.channels_last
    if channels_last or (channels_last is None and device.type == "cuda"):
        _channels_last(model)
    stacks = [module for module in model.modules() if isinstance(module, Transformer | ResNet)]
    for module in stacks:
        module.recompute = config.memory.checkpoint_activations
    sharded = group is not None and config.distributed.strategy == "fsdp"
    if config.speed.compile:
        _compile(model, config.speed.compile_mode, by_block=sharded)
    if sharded:
        assert group is not None
        shard(model, device, group=group, lowered=lowered_dtype(device, config.precision))
    return model.train()


def _check(config: TrainConfig, objective: Objective) -> None:
    if config.distributed.strategy == "fsdp" and not objective.embeds:
        name = config.objective.name
        raise RecipeError(f"distributed.strategy fsdp does not support objective {name}: use replicate")
    if not isinstance(config.model, CustomModelSettings):
        return
    for key, is_set in {
        "distributed.strategy: fsdp": config.distributed.strategy == "fsdp",
        "speed.compile": config.speed.compile,
        "memory.checkpoint_activations": config.memory.checkpoint_activations,
    }.items():
        if is_set:
            raise RecipeError(f"{key} applies to built-in models only: leave it out, or do it in {config.model.name}")


def _channels_last(model: nn.Module) -> None:
    """Store weights of convolutions in the layout that GPUs prefer (only tensors of four dimensions have it)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _compile(model: nn.Module, mode: str, *, by_block: bool) -> None:
    """Compile in place, which keeps parameter names. Shards are gathered between blocks, hence `by_block`."""
    import torch._dynamo

    dynamo: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    setattr(dynamo, name, max(COMPILED_SHAPES, getattr(dynamo, name)))
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            # A compiled pass with gradients and one without may draw different numbers, and each step's seed would
            # be compiled in. (A decorator in the tower's module would load the compiler for every command.)
            module._kept = torch.compiler.disable(module._kept)  # type: ignore[method-assign, no-untyped-call]
    if by_block:
        parts: list[nn.Module] = [module for module in model.modules() if isinstance(module, Block | Bottleneck)]
    else:
        parts = list(model.children())
    for part in parts:
        part.compile(mode=mode, dynamic=False)
