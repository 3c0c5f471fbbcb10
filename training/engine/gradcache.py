"""Exact gradients of a batch that is too large to embed at once (GradCache, Gao et al., arXiv 2101.06983).

The contrastive loss needs all embeddings of a batch, but its gradient reaches the model through the embeddings only.
So the batch is embedded chunk by chunk without keeping activations; the loss is computed once on all embeddings and
gives each of them its gradient; then each chunk is embedded again, now with activations, and its gradient is
backpropagated into the weights. Memory is that of one chunk and of the embeddings; the price is one more forward pass.

The result is exact because both passes compute the same: random numbers (dropout) are replayed, and autocast casts the
same way. Batch normalisation is the exception: its statistics are those of a chunk, not of the batch, so gradients are
those of a batch normalised in chunks, as with any data parallelism. Running statistics are updated in the second pass
only.

Chunks are taken one by one, so that the first is embedded while the loader makes the second. They come as the loader
makes them, images as bytes, and are prepared (normalised) when they are embedded: no more than one is ever float.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.engine.distributed import Group
from openwit.training.models.norms import running_statistics_frozen
from openwit.training.objectives.base import Inputs, Loss, Objective

Rows = int | list[int]
"""Positions of a chunk's samples in this process's part of the batch: of the first, or of each if some are missing."""


@dataclass(frozen=True)
class Part:
    """A chunk of this process's part of a batch, on the device.

    Attributes:
        inputs: images as `Hooks.prepare` takes them.
        rows: see `Rows`.
    """

    inputs: Inputs
    rows: Rows = 0


@dataclass(frozen=True)
class Hooks:
    """Callbacks around the embedding of chunks.

    Attributes:
        before_embed: called before each embedding with the positions of the chunk's samples.
        before_last_backward: called before the last backward pass, in which sharded gradients are communicated.
        prepare: makes what the towers take of a chunk, the same each time it is called; None: it is that already.
        before_loss: called when all chunks are embedded and before their loss, with the number of samples.
        copied: copy what is embedded, as the next chunk is computed into the same memory (CUDA graphs).
        min_chunks: minimum number of chunks; empty ones are added. Sharded weights are communicated with each chunk,
            so all ranks need the same number of chunks, however many samples they have.
    """

    before_embed: Callable[[Rows], None] | None = None
    before_last_backward: Callable[[], None] | None = None
    min_chunks: int = 1
    prepare: Callable[[Inputs], Inputs] | None = None
    before_loss: Callable[[int], None] | None = None
    copied: bool = False

    def embed(self, objective: Objective, model: nn.Module, inputs: Inputs, rows: Rows) -> tuple[Tensor, ...]:
        """Return the outputs of a chunk that `prepared` returned."""
        if self.before_embed is not None:
            self.before_embed(rows)
        if len(inputs.images):
            outputs = objective.embed(model, inputs)
            return tuple(output.clone() for output in outputs) if self.copied else outputs
        # A rank with an empty part still takes part in every collective: one blank sample, of which no row is kept,
        # gives outputs of the right shape and gradients of zero.
        blank = Inputs(inputs.images.new_zeros((1, *inputs.images.shape[1:])), inputs.tokens.new_zeros((1, 3)))
        return tuple(output[:0].clone() for output in objective.embed(model, blank))

    def prepared(self, inputs: Inputs) -> Inputs:
        """Return a chunk as the towers take it."""
        return inputs if self.prepare is None else self.prepare(inputs)

    def padded(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield the chunks, and empty ones after them up to `min_chunks`."""
        given, last = 0, None
        for part in parts:
            given, last = given + 1, part
            yield part
        assert last is not None, "a process without samples has one chunk without samples"
        for _ in range(self.min_chunks - given):
            yield Part(last.inputs.chunk(0, 0))


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
    return backward_parts(
        objective,
        model,
        chunks_of(inputs, chunk),
        several=_is_cut(inputs, chunk),
        autocast=autocast,
        scale=scale,
        group=group,
        hooks=hooks or Hooks(),
    )


def chunks_of(inputs: Inputs, chunk: int | None, rows: Rows = 0) -> list[Part]:
    """Cut this process's part of a batch into chunks; at least one, which may be empty.

    Args:
        inputs: to cut.
        chunk: samples in each but the last; None: all.
        rows: positions of the samples, see `Rows`.
    """
    size = len(inputs.images)
    step = max(1, size if chunk is None else chunk)

    def positions(start: int) -> Rows:
        return rows + start if isinstance(rows, int) else rows[start : start + step]

    return [Part(inputs.chunk(start, start + step), positions(start)) for start in range(0, max(1, size), step)]


def backward_parts(
    objective: Objective,
    model: nn.Module,
    parts: Iterable[Part],
    *,
    several: bool,
    autocast: torch.autocast,
    scale: Tensor | None,
    group: Group | None,
    hooks: Hooks,
) -> Loss:
    """Compute the loss of one batch and its gradients, as `backward` does, of chunks that arrive one by one.

    Args:
        objective, model, autocast, scale, group, hooks: as for `backward`.
        parts: the chunks of this process's part, at least one.
        several: whether there may be more than one. A single one keeps its activations and is embedded once.

    Returns:
        The loss of this rank's share, unscaled, without a gradient.
    """
    engine = _Engine(objective, model, autocast, scale, group, hooks)
    if objective.separable:
        return engine.separable(list(hooks.padded(parts)))
    if several or hooks.min_chunks > 1:
        return engine.cached(hooks.padded(parts))
    (part,) = hooks.padded(parts)
    return engine.whole(part)


@dataclass(frozen=True)
class _Engine:
    objective: Objective
    model: nn.Module
    autocast: torch.autocast
    scale: Tensor | None
    group: Group | None
    hooks: Hooks

    def whole(self, part: Part) -> Loss:
        """Keep the activations of the whole batch."""
        inputs = self.hooks.prepared(part.inputs)
        outputs = self._embed(inputs, part.rows)
        self._before_loss(len(inputs.images))
        loss = self.objective.loss(self.model, outputs, inputs, self.group)
        _before_last(self.hooks)
        _backward(loss.value, self.scale)
        return _detached(loss)

    def separable(self, parts: list[Part]) -> Loss:
        """Backpropagate each chunk at once, weighted by its share of all terms of the mean."""
        objective = self.objective
        self._before_loss(sum(len(part.inputs.images) for part in parts))
        terms = [objective.num_terms(part.inputs) for part in parts]
        num_terms = torch.stack(terms).sum()
        num_terms = (self.group.sum(num_terms) if self.group is not None else num_terms).clamp(min=1)
        total: Loss | None = None
        for number, part in enumerate(parts):
            inputs = self.hooks.prepared(part.inputs)
            weight = terms[number] / num_terms
            outputs = self._embed(inputs, part.rows)
            loss = objective.loss(self.model, outputs, inputs, None)
            if number == len(parts) - 1:
                _before_last(self.hooks)
            _backward(loss.value * weight, self.scale)
            total = _add_weighted(total, loss, weight)
        assert total is not None
        return total

    def cached(self, arriving: Iterable[Part]) -> Loss:
        """Embed twice, see the top of this module."""
        parts: list[Part] = []
        states: list[_RngState] = []
        pieces: list[tuple[Tensor, ...]] = []
        with torch.no_grad(), running_statistics_frozen(self.model):
            for part in arriving:
                device = part.inputs.images.device
                states.append(_RngState.now(device))
                parts.append(part)
                pieces.append(self._embed(self.hooks.prepared(part.inputs), part.rows))
        leaves = [torch.cat(same).requires_grad_() for same in zip(*pieces, strict=True)]
        del pieces
        inputs = _together([part.inputs for part in parts])
        self._before_loss(len(inputs.images))
        loss = self.objective.loss(self.model, tuple(leaves), inputs, self.group)
        _backward(loss.value, self.scale)
        gradients = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]
        after = _RngState.now(device)
        start = 0
        for part, state in zip(parts, states, strict=True):
            state.restore()
            outputs = self._embed(self.hooks.prepared(part.inputs), part.rows)
            if part is parts[-1]:
                _before_last(self.hooks)
            stop = start + len(part.inputs.images)
            pairs = zip(outputs, gradients, strict=True)
            # Outputs of a locked tower have no gradient.
            grown = [(output, gradient[start:stop]) for output, gradient in pairs if output.requires_grad]
            if grown:
                torch.autograd.backward([o for o, _ in grown], [gradient.to(o.dtype) for o, gradient in grown])
            start = stop
        after.restore()
        return _detached(loss)

    def _embed(self, inputs: Inputs, rows: Rows) -> tuple[Tensor, ...]:
        # Autocast caches cast weights, in a first pass without a gradient, so they must not outlive a chunk: each
        # block begins with an empty cache and drops it at its end.
        with self.autocast:
            return self.hooks.embed(self.objective, self.model, inputs, rows)

    def _before_loss(self, samples: int) -> None:
        if self.hooks.before_loss is not None:
            self.hooks.before_loss(samples)


def _is_cut(inputs: Inputs, chunk: int | None) -> bool:
    return chunk is not None and len(inputs.images) > chunk


def _together(parts: list[Inputs]) -> Inputs:
    """Put chunks together; those that are neighbours in memory are not copied."""
    length = max(part.tokens.shape[1] for part in parts)
    tokens = torch.cat([F.pad(part.tokens, (0, length - part.tokens.shape[1])) for part in parts])
    images = [part.images for part in parts if len(part.images)] or [parts[0].images]
    first, place = images[0], images[0].data_ptr()
    for chunk in images:
        if chunk.data_ptr() != place or chunk.stride() != first.stride():
            return Inputs(torch.cat(images), tokens)
        place += len(chunk) * chunk.stride(0) * chunk.element_size()
    return Inputs(first.as_strided((sum(map(len, images)), *first.shape[1:]), first.stride()), tokens)


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
