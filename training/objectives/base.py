"""What an objective is: a batch to outputs, sample by sample, and outputs to a loss over the batch.

The two are apart so that a batch of any size can be embedded in pieces and over processes, while the loss is that of
the whole (GradCache, arXiv 2101.06983). The engine (`engine.gradcache`) does the pieces; an objective knows only
`embed` and `loss`.

Over several processes every figure of a `Loss` is this rank's share: the shares of all ranks add up to what one
process would compute of the whole batch. So do the gradients, which the engine adds up (not averages) over ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of a matrix of similarities that are held at once: 256 MiB in float32.
BLOCK_ELEMENTS = 1 << 26


class Inputs(NamedTuple):
    """This process's part of a batch.

    Attributes:
        images: (B, 3, H, W), normalised.
        tokens: (B, L) ids, padded with zeros after the end of text; L is the longest of the batch.
    """

    images: Tensor
    tokens: Tensor

    def chunk(self, start: int, stop: int) -> "Inputs":
        """Samples start to stop."""
        return Inputs(self.images[start:stop], self.tokens[start:stop])


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, and figures worth logging; over ranks both are shares that add up.

    Attributes:
        value: scalar with a gradient, float32.
        metrics: scalars without one.
    """

    value: Tensor
    metrics: dict[str, Tensor]


class Group(Protocol):
    """The processes that share a batch (`openwit.training.engine.distributed.Group`)."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def gather_with_grad(self, tensor: Tensor) -> Tensor:
        """(b, D) to (B, D) of all ranks in rank order, b of any size; gradients come back added up over ranks."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor added up over ranks; no gradient goes through it."""
        ...

    def rows(self, own: int) -> list[int]:
        """Each rank's number, known to all hosts; no GPU is waited for."""
        ...


class Objective(Protocol):
    """One way to learn from pairs. Stateless; what is learned lives in the model.

    Each objective says which model it takes (`openwit.training.objectives.registry.make_model`), hence `Any` here.
    """

    @property
    def separable(self) -> bool:
        """True: a mean over terms that each need one sample only, so that chunks need no second pass.

        Then, for chunks of a batch, loss(batch) = sum of loss(chunk) * units(chunk) / units(batch), with the group
        None for the chunks and `units(batch)` added up over ranks; so also of metrics and gradients.
        """
        ...

    def units(self, inputs: Inputs) -> Tensor:
        """() float32: the number of terms that `loss` is a mean over: samples, or tokens of the captions."""
        ...

    def embed(self, model: Any, inputs: Inputs) -> tuple[Tensor, ...]:
        """Outputs whose rows depend on one sample each, (b, ...); the caller sets autocast."""
        ...

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        """The loss of the batch in float32, differentiable in the outputs and in parameters such as the temperature.

        Args:
            model: for parameters that act on outputs of several samples (`logit_scale`, `logit_bias`).
            outputs: of `embed`, all chunks of this process put together.
            inputs: of this process.
            group: None is one process.
        """
        ...

    def after_step(self, model: Any) -> None:
        """Puts parameters back into their bounds after the optimiser's step; most objectives have nothing to do."""
        ...

    def score(self, model: Any, images: Tensor, tokens: Tensor) -> Tensor:
        """How well each text fits each image: (B, 3, H, W) and (C, L) to (B, C) float32, higher is better.

        Comparable within a row (zero-shot classification); see each objective for columns. Without gradients; the
        caller puts the model into evaluation mode and sets autocast.
        """
        ...


def first_row(rows: int, group: Group) -> int:
    """Which of all ranks' rows, in rank order, is the first of this rank; ranks may have different numbers."""
    return sum(group.rows(rows)[: group.rank])


def mean_of_terms(terms: Tensor, group: Group | None, metric: str) -> Loss:
    """The loss of a separable objective.

    Args:
        terms: (b, 3) float32: each sample's sum of terms, their number, and how many of them were predicted rightly.
        group: over which the number of terms is added up.
        metric: name of the share of right predictions.
    """
    value, count, right = terms.sum(dim=0).unbind()
    count = count.detach()
    if group is not None:
        count = group.sum(count)
    count = count.clamp(min=1)  # a batch of empty texts teaches nothing, and divides by nothing
    return Loss(value / count, {metric: right.detach() / count})


def summed_over_blocks(term: Callable[[int, int], tuple[Tensor, ...]], rows: int, columns: int) -> tuple[Tensor, ...]:
    """Adds up `term(start, stop)` over blocks of the rows of a (rows, columns) matrix that is never held whole.

    One block is computed as it is; several are computed again in the backward pass, each by itself, so that memory
    is that of one block (`BLOCK_ELEMENTS`) and gradients are the same.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, columns))
    if step >= rows:
        return term(0, rows)
    total: tuple[Tensor, ...] | None = None
    for start in range(0, rows, step):
        # No chance inside a term, so no generator's state to keep.
        part = checkpoint(term, start, min(start + step, rows), use_reentrant=False, preserve_rng_state=False)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    assert total is not None
    return total
