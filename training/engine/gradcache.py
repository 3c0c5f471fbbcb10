"""Exact gradients of a batch that is too large to embed at once (GradCache, Gao et al., arXiv 2101.06983).

The contrastive loss needs all embeddings of a batch, but its gradient reaches the model through the embeddings only.
So the batch is embedded chunk by chunk without keeping activations; the loss is computed once on all embeddings and
gives each of them its gradient; then each chunk is embedded again, now with activations, and its gradient is
backpropagated into the weights. Memory is that of one chunk and of the embeddings; the price is one more forward pass.

The result is exact because both passes compute the same: random numbers (dropout) are replayed, and autocast casts the
same way. Batch normalisation is the exception: its statistics are those of a chunk, not of the batch, so gradients are
those of a batch normalised in chunks, as with any data parallelism. Running statistics are updated in the second pass
only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openwit.training.engine.distributed import Group
from openwit.training.models.norms import running_statistics_frozen
from openwit.training.objectives.base import Inputs, Loss, Objective

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Hooks:
    """Callbacks around the embedding of chunks.

    Attributes:
        before_embed: called before each embedding with the index of the chunk's first sample in this process's part.
        before_last_backward: called before the last backward pass, in which sharded gradients are communicated.
        min_chunks: minimum number of chunks; empty ones are added. Sharded weights are communicated with each chunk,
            so all ranks need the same number of chunks, however many samples they have.
    """

    before_embed: Callable[[int], None] | None = None
    before_last_backward: Callable[[], None] | None = None
    min_chunks: int = 1

    def embed(self, objective: Objective, model: nn.Module, inputs: Inputs, start: int) -> tuple[Tensor, ...]:
        """Return the outputs of a chunk that begins at `start`."""
        if self.before_embed is not None:
            self.before_embed(start)
        if len(inputs.images):
            return objective.embed(model, inputs)
        # A rank with an empty part still takes part in every collective: one blank sample, of which no row is kept,
        # gives outputs of the right shape and gradients of zero.
        blank = Inputs(inputs.images.new_zeros((1, *inputs.images.shape[1:])), inputs.tokens.new_zeros((1, 3)))
        return tuple(output[:0] for output in objective.embed(model, blank))


def backward(
    objective: Objective,
    model: nn.Module,
    inputs: Inputs,
    *,
    autocast: torch.autocast,
    chunk: int | None = None,
    scale: Tensor | None = None,
    group: Group | None = None,
    hooks: Hooks | None = None,
) -> Loss:
    """Compute the loss of one batch and add its gradients to the parameters' gradients.

    Gradients are this rank's share: summed over ranks they are those of the whole batch.

    Args:
        objective: the loss to minimise.
        model: in training mode.
        inputs: this process's part of the batch.
        autocast: precision of the towers.
        chunk: samples embedded with activations at once; None: the whole batch.
        scale: () factor on the loss before the backward pass (fp16); the gradients keep that factor.
        group: the processes that share the batch; None for a single process.
        hooks: see `Hooks`.

    Returns:
        The loss of this rank's share, unscaled, without a gradient.
    """
    hooks = hooks or Hooks()
    size = len(inputs.images)
    ranges = _ranges(size, size if chunk is None else chunk, hooks.min_chunks)
    if objective.separable:
        return _separable(objective, model, inputs, autocast, ranges, scale, group, hooks)
    if len(ranges) > 1:
        return _cached(objective, model, inputs, autocast, ranges, scale, group, hooks)
    with autocast:
        outputs = hooks.embed(objective, model, inputs, 0)
    loss = objective.loss(model, outputs, inputs, group)
    _before_last(hooks)
    _backward(loss.value, scale)
    return _detached(loss)


def _separable(
    objective: Objective,
    model: nn.Module,
    inputs: Inputs,
    autocast: torch.autocast,
    ranges: Ranges,
    scale: Tensor | None,
    group: Group | None,
    hooks: Hooks,
) -> Loss:
    """Backpropagate each chunk at once, weighted by its share of all terms of the mean."""
    num_terms = objective.num_terms(inputs)
    num_terms = (group.sum(num_terms) if group is not None else num_terms).clamp(min=1)
    total: Loss | None = None
    for number, (start, stop) in enumerate(ranges):
        part = inputs.chunk(start, stop)
        weight = objective.num_terms(part) / num_terms
        with autocast:
            outputs = hooks.embed(objective, model, part, start)
        loss = objective.loss(model, outputs, part, None)
        if number == len(ranges) - 1:
            _before_last(hooks)
        _backward(loss.value * weight, scale)
        total = _add_weighted(total, loss, weight)
    assert total is not None
    return total


def _cached(
    objective: Objective,
    model: nn.Module,
    inputs: Inputs,
    autocast: torch.autocast,
    ranges: Ranges,
    scale: Tensor | None,
    group: Group | None,
    hooks: Hooks,
) -> Loss:
    device = inputs.images.device
    states: list[_RngState] = []
    pieces: list[tuple[Tensor, ...]] = []
    # Autocast caches cast weights, here without a gradient, so they must not outlive a chunk: each `with autocast`
    # block begins with an empty cache and drops it at its end.
    with torch.no_grad(), running_statistics_frozen(model):
        for start, stop in ranges:
            states.append(_RngState.now(device))
            with autocast:
                pieces.append(hooks.embed(objective, model, inputs.chunk(start, stop), start))
    leaves = [torch.cat(parts).requires_grad_() for parts in zip(*pieces, strict=True)]
    del pieces
    loss = objective.loss(model, tuple(leaves), inputs, group)
    _backward(loss.value, scale)
    gradients = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
    after = _RngState.now(device)
    for number, ((start, stop), state) in enumerate(zip(ranges, states, strict=True)):
        state.restore()
        with autocast:
            outputs = hooks.embed(objective, model, inputs.chunk(start, stop), start)
        if number == len(ranges) - 1:
            _before_last(hooks)
        grown = [(output, gradient[start:stop]) for output, gradient in zip(outputs, gradients, strict=True)]
        torch.autograd.backward([output for output, _ in grown], [gradient.to(o.dtype) for o, gradient in grown])
    after.restore()
    return _detached(loss)


@dataclass(frozen=True)
class _RngState:
    """State of torch's random generators: the CPU's, and that of the GPU in use."""

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> "_RngState":
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None, device)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def _ranges(size: int, chunk: int, min_chunks: int) -> Ranges:
    chunk = max(1, chunk)
    ranges = [(start, min(start + chunk, size)) for start in range(0, size, chunk)]
    return ranges + [(size, size)] * (min_chunks - len(ranges))


def _backward(value: Tensor, scale: Tensor | None) -> None:
    (value if scale is None else value * scale).backward()  # type: ignore[no-untyped-call]


def _before_last(hooks: Hooks) -> None:
    if hooks.before_last_backward is not None:
        hooks.before_last_backward()


def _detached(loss: Loss) -> Loss:
    return Loss(loss.value.detach(), {name: metric.detach() for name, metric in loss.metrics.items()})


def _add_weighted(total: Loss | None, loss: Loss, weight: Tensor) -> Loss:
    value = loss.value.detach() * weight
    metrics = {name: metric.detach() * weight for name, metric in loss.metrics.items()}
    if total is None:
        return Loss(value, metrics)
    return Loss(total.value + value, {name: total.metrics[name] + metrics[name] for name in metrics})
