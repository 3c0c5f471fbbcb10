"""Control batch normalisation in two passes over the same samples: one of them updates its running statistics."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_frozen(model: nn.Module) -> Iterator[None]:
    """Freeze running statistics while the block runs; batch normalisation still normalises by the batch.

    This sets the momentum to zero rather than turning statistics off, so that a recomputation saves the same tensors
    for its backward pass as the first computation did.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before: list[tuple[Any, Any]] = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def recomputation_contexts(
    model: nn.Module,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """Return contexts for `torch.utils.checkpoint`: only the first computation updates running statistics."""
    return lambda: (nullcontext(), running_statistics_kept(model))


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Undo changes of running statistics at the end of the block.

    The modules are as in the first computation, so compiled code is the same code, and saves the same tensors.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    # `data`, as autograd must not take the restored values for a change of what a backward pass needs.
    held = [buffer.data for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in held]
    try:
        yield
    finally:
        for buffer, value in zip(held, before, strict=True):
            buffer.copy_(value)
