"""Gradients of a batch that is too large to be embedded at once, exactly (GradCache, Gao et al., arXiv 2101.06983).

The contrastive loss needs all embeddings of a batch, but its gradient reaches the model through the embeddings only.
So the batch is embedded chunk by chunk without keeping activations; the loss is taken once, of all embeddings, and
gives each of them its gradient; then each chunk is embedded again, now with activations, and takes its gradient back
into the weights. Memory is that of one chunk and of the embeddings; the price is one more forward pass.

Exact needs that both passes compute the same: chance (dropout) is replayed, and autocast casts the same way. Batch
normalisation is the exception: its statistics are those of a chunk instead of the batch, so gradients are those of a
batch normalised in chunks, as they are with any data parallelism. Running statistics move in the second pass only.
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
    """What surrounds the embedding of a chunk.

    Attributes:
        before: called with the first sample's number in this process's part, ahead of each embedding.
        last: called ahead of the last backward pass, in which sharded gradients travel.
        chunks: at least so many, empty ones if need be: sharded weights travel with each chunk, so that all ranks
            must have the same number of them, however many samples they have.
    """

    before: Callable[[int], None] | None = None
    last: Callable[[], None] | None = None
    chunks: int = 1

    def embed(self, objective: Objective, model: nn.Module, inputs: Inputs, start: int) -> tuple[Tensor, ...]:
        """The outputs of a chunk that begins at `start`."""
        if self.before is not None:
            self.before(start)
        if len(inputs.images):
            return objective.embed(model, inputs)
        # A rank whose part is empty takes part in every collective all the same: one blank sample, of which no row
        # is kept, gives outputs of the right shape and gradients of zero.
        blank = Inputs(inputs.images.new_zeros((1, *inputs.images.shape[1:])), inputs.tokens.new_zeros((1, 3)))
        return tuple(output[:0] for output in objective.embed(model, blank))


def backward(
    objective: Objective,
    model: nn.Module,
    inputs: Inputs,
    autocast: torch.autocast,
    chunk: int | None = None,
    scale: Tensor | None = None,
    group: Group | None = None,
    hooks: Hooks | None = None,
) -> Loss:
    """Computes the loss of one batch and adds its gradients to the parameters'.

    Gradients are this rank's part: added up over ranks they are the whole batch's.

    Args:
        objective: what to learn.
        model: in training mode.
        inputs: this process's part of the batch.
        autocast: precision of the towers.
        chunk: samples embedded with activations at once; None or the batch's size embeds the batch at once.
        scale: () what the loss is multiplied by before it goes back (fp16); the gradients keep that factor.
        group: the processes that share the batch; None is one.
        hooks: see `Hooks`.

    Returns:
        The loss of this rank's share, unscaled, without a gradient.
    """
    hooks = hooks or Hooks()
    size = len(inputs.images)
    ranges = _ranges(size, size if chunk is None else chunk, hooks.chunks)
    if objective.separable:
        return _added_up(objective, model, inputs, autocast, ranges, scale, group, hooks)
    if len(ranges) > 1:
        return _cached(objective, model, inputs, autocast, ranges, scale, group, hooks)
    with autocast:
        outputs = hooks.embed(objective, model, inputs, 0)
    loss = objective.loss(model, outputs, inputs, group)
    _last(hooks)
    _back(loss.value, scale)
    return _detached(loss)


def _added_up(
    objective: Objective,
    model: nn.Module,
    inputs: Inputs,
    autocast: torch.autocast,
    ranges: Ranges,
    scale: Tensor | None,
    group: Group | None,
    hooks: Hooks,
) -> Loss:
    """A mean over terms: each chunk goes back at once, weighted by its share of all terms."""
    units = objective.units(inputs)
    units = (group.sum(units) if group is not None else units).clamp(min=1)
    total: Loss | None = None
    for number, (start, stop) in enumerate(ranges):
        part = inputs.chunk(start, stop)
        weight = objective.units(part) / units
        with autocast:
            outputs = hooks.embed(objective, model, part, start)
        loss = objective.loss(model, outputs, part, None)
        if number == len(ranges) - 1:
            _last(hooks)
        _back(loss.value * weight, scale)
        total = _plus(total, loss, weight)
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
    states: list[_Chance] = []
    pieces: list[tuple[Tensor, ...]] = []
    # The cast weights that autocast keeps are made without a gradient here, so they must not outlive a chunk: each
    # `with autocast` block begins with none and drops its own when it ends.
    with torch.no_grad(), running_statistics_frozen(model):
        for start, stop in ranges:
            states.append(_Chance.now(device))
            with autocast:
                pieces.append(hooks.embed(objective, model, inputs.chunk(start, stop), start))
    leaves = [torch.cat(parts).requires_grad_() for parts in zip(*pieces, strict=True)]
    del pieces
    loss = objective.loss(model, tuple(leaves), inputs, group)
    _back(loss.value, scale)
    gradients = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
    after = _Chance.now(device)
    for number, ((start, stop), state) in enumerate(zip(ranges, states, strict=True)):
        state.restore()
        with autocast:
            outputs = hooks.embed(objective, model, inputs.chunk(start, stop), start)
        if number == len(ranges) - 1:
            _last(hooks)
        grown = [(output, gradient[start:stop]) for output, gradient in zip(outputs, gradients, strict=True)]
        torch.autograd.backward([output for output, _ in grown], [gradient.to(o.dtype) for o, gradient in grown])
    after.restore()
    return _detached(loss)


@dataclass(frozen=True)
class _Chance:
    """The state of torch's generators: the CPU's, and that of the GPU the work is on."""

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> "_Chance":
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None, device)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def _ranges(size: int, chunk: int, at_least: int) -> Ranges:
    chunk = max(1, chunk)
    ranges = [(start, min(start + chunk, size)) for start in range(0, size, chunk)]
    return ranges + [(size, size)] * (at_least - len(ranges))


def _back(value: Tensor, scale: Tensor | None) -> None:
    (value if scale is None else value * scale).backward()  # type: ignore[no-untyped-call]


def _last(hooks: Hooks) -> None:
    if hooks.last is not None:
        hooks.last()


def _detached(loss: Loss) -> Loss:
    return Loss(loss.value.detach(), {name: metric.detach() for name, metric in loss.metrics.items()})


def _plus(total: Loss | None, loss: Loss, weight: Tensor) -> Loss:
    value = loss.value.detach() * weight
    metrics = {name: metric.detach() * weight for name, metric in loss.metrics.items()}
    if total is None:
        return Loss(value, metrics)
    return Loss(total.value + value, {name: total.metrics[name] + metrics[name] for name in metrics})
