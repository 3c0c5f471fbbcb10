"""Muon for weights in shards: torch's own, on whole matrices that are put together one by one.

Momentum is kept in shards, as everything of it is elementwise. Its orthogonalisation needs the whole matrix: each is
gathered in turn, all processes compute the same update of it, and each applies its own rows.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from openwit.training.engine.parallel import local, placed_like, whole


class ShardedMuon(torch.optim.Optimizer):
    """`torch.optim.Muon` for sharded matrices; state and results are its own, up to rounding.

    Args:
        groups: of parameters that are sharded, with `weight_decay`.
        muon: torch's class.
        options: further keyword arguments of it.
    """

    def __init__(self, groups: list[dict[str, Any]], muon: Any, *, lr: float, options: dict[str, Any]) -> None:
        known = {name: one.default for name, one in inspect.signature(muon).parameters.items() if name != "params"}
        given = {**known, **options, "lr": lr}
        self._muon = muon
        self._rest = {name: value for name, value in options.items() if name not in ("momentum", "nesterov")}
        self._rest.pop("weight_decay", None)
        kept = ("lr", "weight_decay", "momentum", "nesterov")
        super().__init__(groups, {name: given[name] for name in kept})
        # Its checks of the options, before the first step.
        self._update(torch.zeros(2, 2), lr)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have gradients (a collective: all processes must call)."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                gradient, mean = local(parameter.grad), local(state["momentum_buffer"])
                mean.lerp_(gradient, 1 - group["momentum"])
                # The gradient is not needed any more: it takes what is orthogonalised, in the same shards.
                gradient.copy_(gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean)
                update = placed_like(self._update(whole(parameter.grad), group["lr"]), parameter.detach())
                own = local(parameter.detach())
                own.mul_(1 - group["lr"] * group["weight_decay"]).add_(local(update))

    def _update(self, direction: Tensor, lr: float) -> Tensor:
        """Return torch's update of a whole matrix: what it makes of zeros, without momentum and decay."""
        zeros = nn.Parameter(torch.zeros_like(direction))
        zeros.grad = direction
        self._muon([zeros], lr=lr, momentum=0.0, nesterov=False, weight_decay=0.0, **self._rest).step()
        return zeros.detach()
