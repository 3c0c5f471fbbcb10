"""A model made ready for its machine: memory layout, recomputation, compiler, shards, in this order."""

from typing import Any

import torch
from torch import nn

from openwit.training.config.train import TrainConfig
from openwit.training.engine.distributed import Group
from openwit.training.engine.parallel import shard
from openwit.training.engine.runtime import lowered_dtype, set_matmul_precision
from openwit.training.models.blocks import Block, Transformer
from openwit.training.models.resnet import Bottleneck, ResNet
from openwit.training.models.vit import VisionTransformer
from openwit.training.objectives.registry import make_model

# Shapes that a compiled tower may meet: lengths of text times sizes of chunks, with and without gradients.
COMPILED_SHAPES = 64


def prepared_model(config: TrainConfig, device: torch.device, group: Group | None) -> nn.Module:
    """A new model with the weights that the seed gives, ready to train.

    Every rank draws the same weights; sharded ones are cut from them.
    """
    set_matmul_precision(config.speed.tf32)
    torch.manual_seed(config.seed)
    model = make_model(config.model, config.objective).to(device)
    wanted = config.speed.channels_last
    if wanted or (wanted is None and device.type == "cuda"):
        _channels_last(model)
    for module in model.modules():
        if isinstance(module, Transformer | ResNet):
            module.recompute = config.memory.checkpoint_activations
    sharded = group is not None and config.distributed.strategy == "fsdp"
    if config.speed.compile:
        _compile(model, config.speed.compile_mode, by_block=sharded)
    if sharded:
        assert group is not None
        shard(model, device, group, lowered_dtype(device, config.precision))
    return model.train()


def _channels_last(model: nn.Module) -> None:
    """Weights of convolutions as the GPU's matrix units want them (a plain tensor of four dimensions is one)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _compile(model: nn.Module, mode: str, by_block: bool) -> None:
    """Compiles in place, so that names of parameters stay. Shards are gathered between blocks, hence `by_block`."""
    import torch._dynamo

    dynamo: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    setattr(dynamo, name, max(COMPILED_SHAPES, getattr(dynamo, name)))
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            # A compiled pass with gradients and one without may draw differently, and each step's seed would be
            # compiled in. (No decorator in the tower's own module: it would load the compiler for every command.)
            module._kept = torch.compiler.disable(module._kept)  # type: ignore[method-assign, no-untyped-call]
    if by_block:
        parts: list[nn.Module] = [module for module in model.modules() if isinstance(module, Block | Bottleneck)]
    else:
        parts = list(model.children())
    for part in parts:
        part.compile(mode=mode, dynamic=False)
