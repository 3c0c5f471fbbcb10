"""Linear layers in fp8, on GPUs whose matrix units take it (compute capability 8.9: Ada, Hopper, Blackwell).

The three products of a layer are of numbers of 8 bits, each tensor with a scale of its own that maps its largest
magnitude to the largest number of its format: e4m3 for activations and weights, e5m2, with more range and less
precision, for gradients. Sums are in float32, results in bf16. On another device the same layers compute the same
products from the same rounded numbers, which is how they are tested.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.training.models.blocks import Attention, Block

_ACTIVATION = torch.float8_e4m3fn
_GRADIENT = torch.float8_e5m2
_OLDEST = (8, 9)
# Rows and columns that the kernel takes.
_MULTIPLE = 16
# Scales stay normal numbers; gradients of a batch of 32,768 are small.
_SMALLEST = 1e-30


def check_fp8(device: torch.device) -> None:
    """Refuse a device without fp8.

    Raises:
        RecipeError: it has none.
    """
    needs = "speed.fp8 needs a GPU of NVIDIA with compute capability 8.9 or higher (Ada, Hopper, Blackwell)"
    if device.type != "cuda":
        raise RecipeError(f"{needs}, and this run is on a CPU: set it to false")
    found = torch.cuda.get_device_capability(device)
    if torch.version.hip is not None or found < _OLDEST:
        name = torch.cuda.get_device_name(device)
        raise RecipeError(f"{needs}, and {name} has {found[0]}.{found[1]}: set it to false")
    if not hasattr(torch, "_scaled_mm"):
        raise RecipeError(f"speed.fp8 needs torch 2.5 or newer, and this is {torch.__version__}: set it to false")


def use_fp8(model: nn.Module) -> int:
    """Let the linear layers of all blocks compute in fp8 while they are trained; return how many do.

    Parameters keep their names. A layer whose sides are no multiples of 16 stays as it is, and so do patches, token
    embeddings and projections, where fp8 costs the most precision and saves the least time.

    Raises:
        RecipeError: the model has no layer that could.
    """
    count = 0
    for block in model.modules():
        if not isinstance(block, Block):
            continue
        for layer in block.modules():
            if isinstance(layer, nn.Linear) and _fits(layer.weight):
                layer.__class__ = Fp8Linear
                count += 1
            elif isinstance(layer, Attention) and _fits(layer.in_proj_weight):
                layer.__class__ = Fp8Attention
                count += 1
    if not count:
        raise RecipeError("speed.fp8: the model has no blocks whose widths are multiples of 16: set it to false")
    return count


class Fp8Linear(nn.Linear):
    """A linear layer in fp8 while it is trained; evaluated, it is an ordinary one."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in bf16."""
        return _linear(x, self.weight, self.bias) if self.training else super().forward(x)


class Fp8Attention(Attention):
    """Attention whose queries, keys and values are computed in fp8 while it is trained."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in bf16."""
        return _linear(x, weight, bias) if self.training else super().linear(x, weight, bias)


class Quantised(NamedTuple):
    """A matrix in fp8 and its scale, () float32: the numbers are `values * scale`."""

    values: Tensor
    scale: Tensor

    def transposed(self) -> "Quantised":
        """Return the transpose, row after row in memory."""
        return Quantised(self.values.t().contiguous(), self.scale)


def quantised(tensor: Tensor, kind: torch.dtype) -> Quantised:
    """Round a matrix to fp8, row after row in memory. What is not finite makes all of it NaN, and so the loss."""
    scale = tensor.abs().amax().float().clamp(min=_SMALLEST) / torch.finfo(kind).max
    return Quantised((tensor.float() / scale).to(kind).contiguous(), scale)


def scaled_product(a: Quantised, b: Quantised, *, fast: bool = False) -> Tensor:
    """Multiply (m, k) by the transpose of (n, k), in bf16.

    Args:
        a, b: row after row in memory; at most one of them in e5m2.
        fast: sums of fewer bits than float32, which suffice on the way forward.
    """
    if a.values.device.type == "cuda":
        return _on_gpu(a, b, fast=fast)
    with torch.autocast(a.values.device.type, enabled=False):
        return ((a.values.float() @ b.values.float().t()) * (a.scale * b.scale)).bfloat16()


def _on_gpu(a: Quantised, b: Quantised, *, fast: bool) -> Tensor:
    return torch._scaled_mm(
        a.values, b.values.t(), scale_a=a.scale, scale_b=b.scale, out_dtype=torch.bfloat16, use_fast_accum=fast
    )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows: Tensor = _Fp8Product.apply(x.flatten(0, -2), weight)  # type: ignore[no-untyped-call]
    mapped = rows.view(*x.shape[:-1], -1)
    return mapped if bias is None else mapped + bias.to(mapped.dtype)


class _Fp8Product(torch.autograd.Function):
    """(m, in) times the transpose of (out, in); keeps both in 8 bits for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        one, other = quantised(x, _ACTIVATION), quantised(weight, _ACTIVATION)
        ctx.save_for_backward(*one, *other)
        ctx.kinds = x.dtype, weight.dtype
        return scaled_product(one, other, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, scale, weights, weight_scale = ctx.saved_tensors
        one, other = Quantised(values, scale), Quantised(weights, weight_scale)
        gradient = quantised(gradients[0], _GRADIENT)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = scaled_product(gradient, other.transposed()).to(ctx.kinds[0])
        if ctx.needs_input_grad[1]:
            of_weight = scaled_product(_filled(gradient.transposed()), _filled(one.transposed())).to(ctx.kinds[1])
        return of_x, of_weight


def _filled(matrix: Quantised) -> Quantised:
    """Fill up the columns, over which is summed, with zeros to a multiple that the kernel takes."""
    missing = -matrix.values.shape[1] % _MULTIPLE
    if not missing:
        return matrix
    # Eight bits of zeros are zero in both formats; padding is not there for fp8 itself.
    padded = F.pad(matrix.values.view(torch.uint8), (0, missing)).view(matrix.values.dtype)
    return Quantised(padded, matrix.scale)


def _fits(weight: Tensor) -> bool:
    return all(side % _MULTIPLE == 0 for side in weight.shape)
