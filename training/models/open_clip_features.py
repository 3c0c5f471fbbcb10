"""Take the features of open_clip's image towers before the projection into the shared space."""

from typing import Any

from torch import Tensor, nn

from openwit.schemas.common.errors import RecipeError


def open_clip_features(model: nn.Module, images: Tensor) -> Tensor:
    """Map (B, 3, H, W) to (B, D) of an image tower of open_clip, its own or timm's, before the projection.

    Raises:
        RecipeError: it is a tower of another kind.
    """
    tower: Any = model.visual
    if hasattr(tower, "trunk") and hasattr(tower, "head"):
        x: Tensor = tower.trunk(images)
        for name, module in tower.head.named_children():
            if name in ("pool", "drop", "norm"):
                x = module(x)
        return x.flatten(1) if x.ndim > 2 else x
    if hasattr(tower, "attnpool"):
        return _with(tower.attnpool, "c_proj", _identity(tower.attnpool.c_proj), tower, images)
    if hasattr(tower, "proj"):
        return _with(tower, "proj", None, tower, images)
    raise RecipeError(f"the image tower {type(tower).__name__} of open_clip is of no kind whose features are known")


def _with(owner: Any, name: str, replacement: Any, tower: nn.Module, images: Tensor) -> Tensor:
    """Run a tower while one of its parts is another."""
    before = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        found = tower(images)
    finally:
        setattr(owner, name, before)
    pooled: Tensor = found[0] if isinstance(found, tuple) else found
    return pooled


def _identity(layer: nn.Linear) -> nn.Linear:
    """Return a linear map that changes nothing: attention takes its weights, so it cannot be left out."""
    same = nn.Linear(layer.in_features, layer.in_features, device=layer.weight.device, dtype=layer.weight.dtype)
    nn.init.eye_(same.weight)
    nn.init.zeros_(same.bias)
    return same.requires_grad_(False)
