"""Distribute a model over processes: a copy in each, or weights in shards (FSDP2), with gradients summed.

`replicate` sums the gradients in large messages once per step, after the last backward pass, instead of wrapping the
model in PyTorch's DistributedDataParallel. The cost is that communication does not overlap with the backward pass; the
gain is the same code for one chunk and for many (DDP needs to know which pass is the last, and expects one forward
pass per step), plain parameter names, sums instead of means, and any number of samples on any rank. With GradCache a
step has one such exchange in any case. If communication is slow relative to a step, `fsdp` overlaps it.

Both give exactly the gradients of one process (sums over ranks of each rank's share).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openwit.training.engine.distributed import Group
from openwit.training.models.blocks import Block
from openwit.training.models.resnet import Bottleneck


def is_sharded(tensor: Any) -> bool:
    """Return whether it is a `DTensor`, by its methods, as importing that class takes half a second."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor; any other tensor itself."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor of a sharded one, on every rank (all must call); any other tensor itself."""
    every: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return every


Take = Callable[[Tensor], Tensor]
"""What is done with each full tensor of a state before the next one is put together, such as a copy to the host."""


def as_it_is(tensor: Tensor) -> Tensor:
    """Keep a full tensor where it is."""
    return tensor


def drop(tensor: Tensor) -> Tensor:
    """Free a full tensor: of a state that only another rank keeps."""
    return tensor.new_empty(0)


def placed_like(value: Tensor, like: Tensor) -> Tensor:
    """Return a copy of a full tensor, which every rank has, in the layout, on the device and in the shards of another.

    The layout matters: fused optimisers walk through weights and their moments side by side in memory, and a
    checkpoint of a CPU has another layout than a GPU's channels_last.
    """
    if not is_sharded(like):
        return torch.empty_like(like).copy_(value)
    moved = value.to(device=like.device, dtype=like.dtype, copy=True)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def shard(
    model: nn.Module,
    device: torch.device,
    *,
    group: Group,
    lowered: torch.dtype | None,
    own: Sequence[nn.Module] = (),
) -> None:
    """Shard the weights of the towers over the processes, block by block (FSDP2); they are gathered for computation.

    Weights outside the towers (temperature, bias) are kept in full on every rank. Blocks of transformers are gathered
    in the precision they are computed in; embeddings and projections in float32, so that the residual stream is the
    same as without shards. Gradients are summed in float32.

    Args:
        model: with its towers as children.
        device: of the weights.
        group: all processes.
        lowered: dtype of autocast; None for float32.
        own: blocks of a model given by dotted name, gathered in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (group.size,))
    narrow = MixedPrecisionPolicy(param_dtype=lowered, reduce_dtype=torch.float32, cast_forward_inputs=False)
    plain = MixedPrecisionPolicy(cast_forward_inputs=False)
    for module in model.modules():
        if isinstance(module, Block | Bottleneck):
            fully_shard(module, mesh=mesh, mp_policy=narrow if isinstance(module, Block) else plain)
    for block in own:
        fully_shard(block, mesh=mesh, mp_policy=plain, **_scalars(block))
    for child in model.children():
        fully_shard(child, mesh=mesh, mp_policy=plain, **_scalars(child))
        # Towers of custom models are called by the first ones; probes take features before the projection.
        called = ("encode_image", "encode_text") if own else ()
        for method in (*called, *(name for name in ("features", "encode_image_features") if hasattr(child, name))):
            register_fsdp_forward_method(child, method)
    for part in _sharded_modules(model):
        part.set_gradient_divide_factor(1.0)
        # gloo does not support reductions with a factor.
        part.set_force_sum_reduction_for_comms(True)


def _scalars(module: nn.Module) -> dict[str, Any]:
    """Return the argument that leaves single numbers, such as a temperature, in full on every rank."""
    found = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    return {"ignored_params": found} if found else {}


def send_gradients(model: nn.Module, wanted: bool) -> None:
    """Set whether the next backward pass of sharded weights reduces its gradients or only accumulates them."""
    for part in _sharded_modules(model):
        part.set_requires_gradient_sync(wanted, recurse=False)


def reshard(model: nn.Module) -> None:
    """Free weights that were gathered by a forward pass without a backward pass."""
    for part in _sharded_modules(model):
        part.reshard()


def reduce_gradients(model: nn.Module, group: Group) -> None:
    """Sum the gradients of unsharded parameters over ranks."""
    gradients = []
    for parameter in model.parameters():
        if not parameter.requires_grad or is_sharded(parameter):
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    group.all_reduce(gradients)


@torch.no_grad()
def gradient_norm(parameters: Iterable[Tensor], group: Group | None) -> Tensor:
    """Return () float32: the Euclidean norm of the whole gradient over all shards. Does not wait for the device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    shards = [local(gradient) for gradient in gradients if is_sharded(gradient)]
    copies = [gradient for gradient in gradients if not is_sharded(gradient)]
    squares = [_norm(copies).square()] if copies else []
    if shards:
        assert group is not None
        squares.append(group.sum(_norm(shards).square()))
    return torch.stack(squares).sum().sqrt()


def full_state(model: nn.Module, take: Take = as_it_is) -> dict[str, Tensor]:
    """Return the state dict with full tensors, under the names of an unsharded model (all ranks must call).

    Args:
        model: perhaps sharded.
        take: see `Take`; no rank then has more than one full tensor on its device.
    """
    return {name: take(whole(tensor.detach())) for name, tensor in model.state_dict().items()}


@torch.no_grad()
def load_full_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load full tensors, which every rank has or receives one by one, into a model that may be sharded.

    Raises:
        RuntimeError: names or shapes differ.
    """
    own = model.state_dict()
    if own.keys() != state.keys():
        raise RuntimeError("names differ")
    for name, tensor in own.items():
        value = state[name]
        if value.shape != tensor.shape:
            raise RuntimeError(f"shapes of {name} differ")
        tensor.copy_(placed_like(value, tensor))


def _norm(tensors: list[Tensor]) -> Tensor:
    norms = [norm.float() for norm in torch._foreach_norm(tensors)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _sharded_modules(model: nn.Module) -> list[Any]:
    if not any(is_sharded(parameter) for parameter in model.parameters()):
        return []
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]
