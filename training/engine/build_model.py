"""Build the model of a run: memory layout, recomputation, compilation and sharding, in this order."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, TrainConfig
from openwit.training.config.zoo import ResNetSpec
from openwit.training.engine.distributed import Group
from openwit.training.engine.fp8 import check_fp8, use_fp8
from openwit.training.engine.own_blocks import own_blocks, wrap_blocks
from openwit.training.engine.parallel import shard
from openwit.training.engine.places import lock
from openwit.training.engine.runtime import lowered_dtype, set_matmul_precision
from openwit.training.models.blocks import Block, Transformer
from openwit.training.models.contrastive_captioner import MultimodalDecoder
from openwit.training.models.resnet import Bottleneck, ResNet
from openwit.training.models.vit import VisionTransformer
from openwit.training.objectives.base import Objective

# Input shapes of a compiled tower: text lengths times chunk sizes, with and without gradients.
COMPILED_SHAPES = 64

_CUDA_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def build_model(
    config: TrainConfig,
    objective: Objective,
    *,
    device: torch.device,
    group: Group | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Return a new model, ready to train, with weights initialised from the seed.

    Every rank draws the same weights and keeps its shards of them. `prepare` may load others before.

    Raises:
        RecipeError: the model cannot be built, or a setting does not apply to it.
    """
    _check(config, objective)
    if config.speed.fp8:
        check_fp8(device)
    set_matmul_precision(config.speed.tf32)
    torch.manual_seed(config.seed)
    model = objective.build_model(config.model)
    if prepare is not None:
        prepare(model)
    if config.model.lock is not None:
        lock(model, config.model.lock)
    model = model.to(device)
    channels_last = config.speed.channels_last
    sharded = group is not None and config.distributed.strategy == "fsdp"
    if channels_last or (channels_last is None and device.type == "cuda"):
        _channels_last(model, weights=not sharded)
    stacks = [module for module in model.modules() if isinstance(module, Transformer | ResNet)]
    for module in stacks:
        module.recompute = config.memory.checkpoint_activations
        if isinstance(module, Transformer):
            module.skip_unused = config.speed.skip_unused
    if config.speed.fp8:
        use_fp8(model)
    blocks = _own_blocks(config, model)
    if config.speed.compile:
        _allow_shapes()
    if blocks:
        mode = config.speed.compile_mode if config.speed.compile else None
        wrap_blocks(blocks, recompute=config.memory.checkpoint_activations, compile_mode=mode)
    elif config.speed.compile:
        _compile(model, config.speed.compile_mode, by_block=sharded)
    if sharded:
        assert group is not None
        shard(model, device, group=group, lowered=lowered_dtype(device, config.precision), own=blocks)
    return model.train()


def uses_cuda_graphs(config: TrainConfig, device: torch.device) -> bool:
    """Return whether the towers are recorded as CUDA graphs, whose results lie in the same memory in every run."""
    return config.speed.compile and config.speed.compile_mode in _CUDA_GRAPH_MODES and device.type == "cuda"


def _check(config: TrainConfig, objective: Objective) -> None:
    if config.distributed.strategy == "fsdp" and not objective.embeds:
        name = config.objective.name
        raise RecipeError(f"distributed.strategy fsdp does not support objective {name}: use replicate")
    if not isinstance(config.model, CustomModelSettings):
        _check_graphs(config)
        return
    if config.speed.fp8:
        raise RecipeError(f"speed.fp8 applies to built-in models only: leave it out, or do it in {config.model.name}")
    mode = config.speed.compile_mode
    if config.speed.compile and mode in _CUDA_GRAPH_MODES:
        raise RecipeError(
            f"speed.compile_mode {mode} records CUDA graphs, of built-in models only: use default or "
            "max-autotune-no-cudagraphs"
        )


def _check_graphs(config: TrainConfig) -> None:
    assert not isinstance(config.model, CustomModelSettings)
    mode = config.speed.compile_mode
    if not config.speed.compile or mode not in _CUDA_GRAPH_MODES:
        return
    remedy = "use default or max-autotune-no-cudagraphs"
    if config.distributed.strategy == "fsdp":
        raise RecipeError(f"speed.compile_mode {mode} records CUDA graphs, and shards move in memory: {remedy}")
    if config.memory.checkpoint_activations and isinstance(config.model.resolved().vision, ResNetSpec):
        raise RecipeError(
            f"speed.compile_mode {mode} records CUDA graphs, in which the blocks of a ResNet cannot be computed again "
            f"(memory.checkpoint_activations): {remedy}"
        )


def _own_blocks(config: TrainConfig, model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model given by dotted name, if a setting needs them."""
    wanted = {
        "distributed.strategy: fsdp": config.distributed.strategy == "fsdp",
        "speed.compile": config.speed.compile,
        "memory.checkpoint_activations": config.memory.checkpoint_activations,
    }
    key = next((key for key, is_set in wanted.items() if is_set), None)
    if key is None or not isinstance(config.model, CustomModelSettings):
        return []
    return own_blocks(model, name=config.model.name, key=key)


def _channels_last(model: nn.Module, *, weights: bool) -> None:
    """Let convolutions compute in the layout that GPUs prefer (only tensors of four dimensions have it).

    Args:
        model: with its towers as children.
        weights: store their weights in it too. Shards cannot be (FSDP2 takes contiguous parameters only): then the
            layout of the images decides, and a convolution converts its weights each time, which are small.
    """
    for tower in model.children():
        convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
        if convolutions and not weights:
            tower.register_forward_pre_hook(_images_last)
        for module in convolutions if weights else []:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _images_last(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *others = inputs
    return images.contiguous(memory_format=torch.channels_last), *others


def _allow_shapes() -> None:
    import torch._dynamo

    dynamo: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    setattr(dynamo, name, max(COMPILED_SHAPES, getattr(dynamo, name)))


def _compile(model: nn.Module, mode: str, *, by_block: bool) -> None:
    """Compile in place, which keeps parameter names.

    Shards are gathered between blocks, hence `by_block`. The same for a ResNet whose blocks are computed again: the
    compiler's front end does not take a checkpoint with contexts, which keep the running statistics.
    """
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            # A compiled pass with gradients and one without may draw different numbers, and each step's seed would
            # be compiled in. (A decorator in the tower's module would load the compiler for every command.)
            module._kept = torch.compiler.disable(module._kept)  # type: ignore[method-assign, no-untyped-call]
        if isinstance(module, MultimodalDecoder):
            # Shapes of the tokens that are counted depend on the data.
            module.terms = torch.compiler.disable(module.terms)  # type: ignore[method-assign, no-untyped-call]
    parts: list[nn.Module] = []
    for tower in model.children():
        cut = by_block or (isinstance(tower, ResNet) and tower.recompute)
        parts += [module for module in tower.modules() if isinstance(module, Block | Bottleneck)] if cut else [tower]
    for part in parts:
        part.compile(mode=mode, dynamic=False)
