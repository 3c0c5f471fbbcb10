"""Make the optimiser: AdamW as in the paper, with decoupled decay of matrices, none of gains, biases and vectors."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.plugins import check_call, load_object, one_line
from openwit.training.config import OptimSettings
from openwit.training.config.plugins import is_dotted
from openwit.training.engine.faults import device_error
from openwit.training.engine.muon import float32_muon
from openwit.training.engine.parallel import Take, as_it_is, is_sharded, placed_like, whole
from openwit.training.engine.places import depths, place_of
from openwit.training.engine.sent_tree import plain
from openwit.training.engine.sharded_muon import ShardedMuon

_KEY = "optim.name"


class Several:
    """Optimisers of disjoint parameters, used as one.

    Args:
        parts: the optimisers.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """State by parameter."""
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    def step(self) -> None:
        """Update all parameters."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


AnyOptimizer = torch.optim.Optimizer | Several


def make_optimizer(model: nn.Module, settings: OptimSettings, *, head_apart: bool = False) -> AnyOptimizer:
    """Return the optimiser (paper section 2.5: decay on "all weights that are not gains or biases").

    Gains, biases, the class token and the temperature have fewer than two dimensions; everything else is decayed.
    The fused kernel updates the 49,408 rows of the token embedding in 7 ms on two cores (1.5 % of a small model's
    step), so rows that a batch does not use are not handled separately. It also skips a step if a flag on the device
    (`found_inf`) is set, without synchronising with the host.

    Args:
        model: parameters without `requires_grad` are left out.
        settings: which optimiser.
        head_apart: the head's groups are marked, for a learning rate of their own.

    Raises:
        RecipeError: the optimiser cannot be made.
    """
    own = sorted({"lr", "params", "weight_decay"} & settings.options.keys())
    if own:
        raise RecipeError(
            f"optim.options: {own[0]} is a setting of its own, optim.{own[0]}: leave it out of the options"
        )
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if settings.name == "muon":
        return _muon(model, named, settings, head_apart)
    groups = _groups(model, named, settings, head_apart)
    if settings.name == "adamw":
        return _adamw(groups, settings)
    factory = load_object(settings.name, key=_KEY)
    keywords: dict[str, Any] = {"lr": settings.lr, **settings.options}
    for name in ("betas", "eps"):
        if callable(factory) and name in _parameters(factory):
            keywords.setdefault(name, getattr(settings, name))
    check_call(factory, keywords, name=settings.name, key=_KEY, positional=1)
    try:
        made: torch.optim.Optimizer = factory(groups, **keywords)
    except Exception as error:
        raise RecipeError(f"{_KEY}: {settings.name!r} cannot be made: {one_line(error)}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise RecipeError(f"{_KEY}: {settings.name!r} returned a {type(made).__name__}, not an Optimizer of torch")
    return made


def take_step(optimizer: AnyOptimizer, settings: OptimSettings) -> None:
    """Update the weights.

    Raises:
        RecipeError: an optimiser given by dotted name cannot, such as one for sparse gradients only.
    """
    try:
        optimizer.step()
    except Exception as error:
        if not is_dotted(settings.name) or isinstance(error, OpenWITError) or device_error(error) is not None:
            raise
        raise RecipeError(f"{_KEY}: {settings.name!r} cannot update the weights: {one_line(error)}") from error


def knows_found_inf(optimizer: AnyOptimizer) -> bool:
    """Return whether it skips a step by the flag `found_inf` on the device, as torch's fused ones do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def _adamw(groups: list[dict[str, Any]], settings: OptimSettings) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def _groups(
    model: nn.Module, named: list[tuple[str, nn.Parameter]], settings: OptimSettings, head_apart: bool
) -> list[dict[str, Any]]:
    """Return groups of parameters of one kind, decay, factor of the learning rate, and place."""
    blocks = depths(model)
    # Sharded and unsharded weights cannot share a kernel, so each kind has its own groups.
    kinds = list(dict.fromkeys(type(p.data) for _, p in named))
    groups: list[dict[str, Any]] = []
    for kind in kinds:
        for decayed in (True, False):
            found: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for name, parameter in named:
                if type(parameter.data) is kind and (parameter.ndim >= 2) == decayed:
                    key = (_factor(name, settings, blocks), head_apart and place_of(name).is_head)
                    found.setdefault(key, []).append(parameter)
            for (factor, head), parameters in found.items():
                decay = settings.weight_decay if decayed else 0.0
                groups.append({"params": parameters, "weight_decay": decay, "factor": factor, "head": head})
    return groups


def _factor(name: str, settings: OptimSettings, blocks: dict[str, int]) -> float:
    """Return the factor of a parameter's learning rate: the tower's, times the decay for each block above it."""
    place = place_of(name)
    if place.tower is None:
        return 1.0
    own = settings.image_lr if place.tower == "image" else settings.text_lr
    factor = 1.0 if own is None else own / settings.lr
    if settings.layer_decay == 1 or place.is_head or place.is_after:
        return factor
    above = blocks[place.tower] - (-1 if place.block is None else place.block)
    return float(factor * settings.layer_decay**above)


def _muon(
    model: nn.Module, named: list[tuple[str, nn.Parameter]], settings: OptimSettings, head_apart: bool
) -> Several:
    muon: Any = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise RecipeError(f"{_KEY}: this torch ({torch.__version__}) has no Muon: use adamw, or torch 2.9 or newer")
    hidden = [(n, p) for n, p in named if p.ndim == 2 and place_of(n).block is not None]
    others = [(n, p) for n, p in named if not (p.ndim == 2 and place_of(n).block is not None)]
    if not hidden:
        raise RecipeError(f"{_KEY}: muon updates matrices in blocks, and the model has none that is free: use adamw")
    # With this factor an update is as large as AdamW's, so that one learning rate serves both.
    options = {"adjust_lr_fn": "match_rms_adamw", **settings.options}
    check_call(muon, {"lr": settings.lr, **options}, name="muon", key=_KEY, positional=1)
    if all(parameter.device.type == "cpu" for _, parameter in hidden):
        muon = float32_muon(muon)
    groups = _groups(model, hidden, settings, head_apart)
    first: torch.optim.Optimizer
    if any(is_sharded(parameter) for _, parameter in hidden):
        first = ShardedMuon(groups, muon, lr=settings.lr, options=options)
    else:
        first = muon(groups, lr=settings.lr, **options)
    return Several([first, _adamw(_groups(model, others, settings, head_apart), settings)])


def _parameters(factory: Any) -> set[str]:
    try:
        return set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return set()


def set_learning_rate(optimizer: AnyOptimizer, rate: float, head_rate: float | None = None) -> None:
    """Set the learning rate of every group: its factor of the rate, or of the head's rate."""
    for group in optimizer.param_groups:
        own = head_rate if head_rate is not None and group.get("head") else rate
        group["lr"] = own * group.get("factor", 1.0)


def optimizer_state(optimizer: AnyOptimizer, model: nn.Module, take: Take = as_it_is) -> dict[str, Any]:
    """Return the optimiser's state of each parameter, by the parameter's name and unsharded (all ranks must call).

    Each tensor is given to `take` before the next one is put together. Rates and decays are not in it: the
    configuration has them.
    """
    states = optimizer.state
    return {
        name: {
            key: take(whole(value)) if isinstance(value, Tensor) else value for key, value in states[parameter].items()
        }
        for name, parameter in model.named_parameters()
        if parameter in states
    }


def restore_optimizer(optimizer: AnyOptimizer, model: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore what `optimizer_state` returned, in the shards that the model has now.

    Also accepts `Optimizer.state_dict()`, which earlier checkpoints hold.
    """
    parts = optimizer.parts if isinstance(optimizer, Several) else [optimizer]
    if "param_groups" in state:
        parts[0].load_state_dict(plain(state))
        return
    owners = {p: part for part in parts for group in part.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name in state and parameter in owners:
            owners[parameter].state[parameter] = {key: _placed(value, parameter) for key, value in state[name].items()}


def _placed(value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return placed_like(value, parameter.detach()) if value.ndim else value.to(parameter.device, copy=True)
