"""Tell from a parameter's name where in a model it is, and lock parts of a model."""

import re
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from openwit.schemas.common.errors import RecipeError
from openwit.training.config.lock import LockSettings
from openwit.training.models.weights import TEXT_TOWER

_BLOCK = re.compile(r"(?:^|\.)(?:resblocks|blocks|layers)\.(\d+)\.|(?:^|\.)layer(\d)\.")
_HEAD = re.compile(r"(?:^|\.)(?:proj|head|text_projection|attnpool|map_pool|attn_pool)(?:\.|$)")
_AFTER = re.compile(r"(?:^|\.)(?:ln_post|ln_final|final_layer_norm|norm)\.")


@dataclass(frozen=True)
class Place:
    """Place of a parameter.

    Attributes:
        tower: image or text; None outside of both (temperature, bias).
        block: number from 0; None outside of blocks.
        is_head: a projection or pooling at the end of a tower, or outside of both.
        is_after: the normalisation after the blocks.
    """

    tower: str | None
    block: int | None
    is_head: bool
    is_after: bool = False


def place_of(name: str) -> Place:
    """Return the place of a parameter of a model of ours, or of one with towers of the same names."""
    if name.startswith("decoder."):
        # Of a model of ours that predicts captions: in neither tower, and new where towers have learned before.
        found = _BLOCK.search(name)
        return Place(None, None if found is None else int(found[1]), is_head=True)
    name = name.removeprefix("towers.").removeprefix("model.")
    if name.startswith("visual."):
        tower, rest = "image", name.removeprefix("visual.")
    elif name.startswith(("text.", *TEXT_TOWER)):
        tower, rest = "text", name.removeprefix("text.")
    else:
        return Place(None, None, is_head=True)
    found = _BLOCK.search(rest)
    if found is not None:
        # The stages of a ResNet are numbered from 1.
        return Place(tower, int(found[1]) if found[1] is not None else int(found[2]) - 1, is_head=False)
    return Place(tower, None, is_head=bool(_HEAD.search(rest)), is_after=bool(_AFTER.search(rest)))


def depths(model: nn.Module) -> dict[str, int]:
    """Return the number of blocks of each tower."""
    found: dict[str, int] = {}
    for name, _ in model.named_parameters():
        place = place_of(name)
        if place.tower is not None:
            found[place.tower] = max(found.get(place.tower, 0), 0 if place.block is None else place.block + 1)
    return found


def lock(model: nn.Module, settings: LockSettings) -> int:
    """Lock parts of a model; return the number of locked parameters.

    Raises:
        RecipeError: it has no such tower, or fewer blocks.
    """
    count = 0
    blocks = depths(model)
    for tower in ("image", "text"):
        wanted = getattr(settings, tower)
        if wanted is None:
            continue
        if tower not in blocks:
            raise RecipeError(f"model.lock.{tower}: the model has no {tower} tower whose parameters are known by name")
        if wanted != "all" and wanted > blocks[tower]:
            raise RecipeError(f"model.lock.{tower}: {wanted} blocks are to be free, but the tower has {blocks[tower]}")
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(prefix=path, recurse=False):
                place = place_of(name)
                norm = settings.norms and _is_norm(module)
                if place.tower == tower and (norm or _is_locked(place, wanted, blocks[tower])):
                    parameter.requires_grad_(False)
                    count += parameter.numel()
            if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters(recurse=False)):
                freeze_statistics(module)
    return count


def freeze_statistics(norm: nn.Module) -> None:
    """Keep batch normalisation in evaluation mode, also when the model is put into training mode."""
    norm.eval()
    norm.train = partial(_stay, norm)  # type: ignore[method-assign]
    norm.statistics_frozen = True  # type: ignore[assignment]


def _stay(norm: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001
    return norm


def _is_locked(place: Place, wanted: object, blocks: int) -> bool:
    if wanted == "all":
        return True
    assert isinstance(wanted, int)
    if place.block is not None:
        return place.block < blocks - wanted
    return not (place.is_head or place.is_after)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm)
