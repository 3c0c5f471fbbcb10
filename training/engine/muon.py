"""Compute Muon's updates on a CPU: in float32, and matrices of one shape together.

torch's Muon iterates in bfloat16 wherever it runs, which CPUs without units for it emulate: on two AVX2 cores the
update of a model of 1.3 million parameters took 1.5 seconds of CPU time, and takes 0.1 here. State and settings are
torch's, so a checkpoint of either continues with the other.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Return the matrices, (M, A, B), with all singular values near 1 (Newton-Schulz iteration, as torch's Muon)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def float32_muon(base: Any) -> Any:
    """Return torch's class `Muon` with a step in float32."""

    class Float32Muon(base):  # type: ignore[misc]
        @torch.no_grad()
        def step(self, closure: Callable[[], float] | None = None) -> float | None:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            for group in self.param_groups:
                _update(group, self.state)
            return loss

    return Float32Muon


def _update(group: dict[str, Any], state: Any) -> None:
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for parameter in group["params"]:
        if parameter.grad is not None:
            by_shape.setdefault(parameter.shape, []).append(parameter)
    lr = float(group["lr"])
    for shape, parameters in by_shape.items():
        directions = []
        for parameter in parameters:
            gradient, own = parameter.grad, state[parameter]
            assert gradient is not None
            if "momentum_buffer" not in own:
                own["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = own["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            directions.append(gradient.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer)
        updates = orthogonalised(
            torch.stack(directions).float(), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        rate = lr * _ratio(shape, group["adjust_lr_fn"])
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-rate)


def _ratio(shape: torch.Size, how: str | None) -> float:
    """Return the factor of the learning rate of a matrix of this shape."""
    rows, columns = shape
    if how == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
