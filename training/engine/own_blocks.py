"""Recompute, compile and shard a custom model by the blocks that it names (`blocks`)."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from openwit.schemas.common.errors import RecipeError
from openwit.training.models.build import CustomTowers
from openwit.training.models.norms import recomputation_contexts

WANTED = "a method blocks() that returns the modules to wrap, such as the layers of its transformers"


def own_blocks(model: nn.Module, *, name: str, key: str) -> list[nn.Module]:
    """Return the blocks of a model given by dotted name.

    Args:
        model: `CustomTowers`.
        name: of the model, for messages.
        key: the setting that needs them.

    Raises:
        RecipeError: it names none, something else, or one within another.
    """
    towers = model.towers if isinstance(model, CustomTowers) else model
    found: Any = getattr(towers, "blocks", None)
    if found is None:
        raise RecipeError(f"{key} needs the blocks of model.name {name!r}: give it {WANTED}, or leave {key} out")
    if callable(found) and not isinstance(found, nn.Module):
        found = found()
    blocks = list(found) if isinstance(found, Sequence | nn.ModuleList | nn.Sequential) else []
    inside = {id(module) for module in towers.modules()} - {id(towers)}
    if not blocks or any(id(block) not in inside for block in blocks):
        raise RecipeError(f"model.name {name!r}: blocks must be a list of modules of the model, but is {found!r:.60}")
    within = [id(module) for block in blocks for module in block.modules()]
    if len(set(within)) < len(within):
        raise RecipeError(f"model.name {name!r}: a module is in two of its blocks, which must be apart")
    return blocks


def wrap_blocks(blocks: Sequence[nn.Module], *, recompute: bool, compile_mode: str | None) -> None:
    """Let blocks be compiled, or computed again in the backward pass, in place; parameters keep their names.

    Args:
        blocks: see `own_blocks`.
        recompute: keep only their inputs for the backward pass.
        compile_mode: of torch.compile; None: not compiled.
    """
    for block in blocks:
        forward = block.forward
        if compile_mode is not None:
            forward = compiled(forward, compile_mode)
        block.forward = _recomputed(block, forward) if recompute else forward


def compiled(forward: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """Return the compiled function; hooks, such as those of shards, stay outside of it."""
    made: Callable[..., Any] = torch.compile(forward, mode=mode, dynamic=False)
    return made


def _recomputed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    keeps_statistics = any(isinstance(module, _BatchNorm) for module in block.modules())
    more: dict[str, Any] = {"context_fn": recomputation_contexts(block)} if keeps_statistics else {}

    @wraps(forward)
    def run(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **more, **options)

    return run
