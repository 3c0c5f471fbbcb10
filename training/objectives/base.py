"""Define the Objective protocol: per-sample `embed`, batch-level `loss`.

The two are separate so that a batch of any size can be embedded in chunks and over several processes, while the loss
is that of the whole batch (GradCache, arXiv 2101.06983). The engine (`engine.gradcache`) handles the chunks; an
objective implements only `embed` and `loss`.

With several processes every value of a `Loss` is this rank's share: the sum over ranks is what one process would
compute for the whole batch. The same holds for gradients, which the engine sums (not averages) over ranks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.models.build import build_two_towers

# Elements of a similarity matrix that are held in memory at once: 256 MiB in float32.
BLOCK_ELEMENTS = 1 << 26


class Inputs(NamedTuple):
    """This process's part of a batch.

    Attributes:
        images: (B, 3, H, W), normalised; in `loss` of a batch that is embedded in chunks (`memory.chunk`), uint8
            (B, H, W, 3) as the loader made them, since the normalised images of a whole batch are never in memory.
        tokens: (B, L) ids, padded with zeros after the end of text; L is the longest of the batch.
    """

    images: Tensor
    tokens: Tensor

    def chunk(self, start: int, stop: int) -> "Inputs":
        """Samples start to stop."""
        return Inputs(self.images[start:stop], self.tokens[start:stop])


@dataclass(frozen=True)
class Loss:
    """Loss of a batch and metrics to log; with several ranks both are shares to be summed.

    Attributes:
        value: scalar with a gradient, float32.
        metrics: scalars without one.
    """

    value: Tensor
    metrics: dict[str, Tensor]


class Group(Protocol):
    """Collectives of the processes that share a batch (`openwit.training.engine.distributed.Group`)."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    @property
    def sizes(self) -> list[int] | None:
        """Samples of each rank in this step, if the engine has exchanged them."""
        ...

    def gather_with_grad(self, tensor: Tensor, counts: list[int] | None = None) -> Tensor:
        """Gather (b, D) of each rank to (B, D) in rank order, b of any size; gradients are summed over ranks.

        `counts` is b of each rank, if all ranks know them; otherwise they are exchanged.
        """
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the tensor summed over ranks, without a gradient."""
        ...

    def all_gather_ints(self, value: int) -> list[int]:
        """Return each rank's number; exchanged between hosts, so no GPU is waited for."""
        ...


class Objective(Protocol):
    """One way to learn from pairs. Stateless; what is learned is in the model.

    `model` is what `build_model` returned, hence `Any` here. An objective of your own that trains two towers derives
    from `EmbeddingObjective`, which implements everything but `loss`.
    """

    @property
    def embeds(self) -> bool:
        """True: the model has `encode_image` and `encode_text`, which embed into one space."""
        ...

    @property
    def separable(self) -> bool:
        """True: a mean over terms that each need one sample only, so that chunks need no second pass.

        Then, for chunks of a batch, loss(batch) = sum of loss(chunk) * num_terms(chunk) / num_terms(batch), with the
        group None for the chunks and `num_terms(batch)` summed over ranks; likewise for metrics and gradients.
        """
        ...

    @property
    def max_logit_scale(self) -> float | None:
        """Upper bound to which `after_step` clamps the logit scale; None: no bound."""
        ...

    def guess_loss(self, batch_size: int) -> float | None:
        """Return the loss of a model that guesses; None if it is not known."""
        ...

    def build_model(self, settings: ModelSettings | CustomModelSettings) -> nn.Module:
        """Return a new model that this objective can train; it has `inputs` (`InputSpec`).

        Initial weights come from torch's generator.

        Raises:
            RecipeError: the objective cannot train this model.
        """
        ...

    def num_terms(self, inputs: Inputs) -> Tensor:
        """Return the number of terms that `loss` is a mean over (samples, or tokens of the captions): () float32."""
        ...

    def embed(self, model: Any, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return outputs whose rows depend on one sample each, (b, ...); the caller sets autocast."""
        ...

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        """Return the loss of the batch in float32, differentiable in the outputs and in parameters of the model.

        Args:
            model: for parameters that act on outputs of several samples (`logit_scale`, `logit_bias`).
            outputs: of `embed`, all chunks of this process concatenated.
            inputs: of this process.
            group: None for a single process.
        """
        ...

    def after_step(self, model: Any) -> None:
        """Clamp parameters to their bounds after the optimiser's step; most objectives do nothing."""
        ...

    def score(self, model: Any, images: Tensor, tokens: Tensor) -> Tensor:
        """Score how well each text fits each image: (B, 3, H, W) and (C, L) to (B, C) float32, higher is better.

        Comparable within a row (zero-shot classification); see each objective for columns. Without gradients; the
        caller puts the model into evaluation mode and sets autocast.
        """
        ...


class EmbeddingObjective:
    """Base of objectives that train two towers: implements `Objective` except for `loss`.

    `embed` returns embeddings of images and texts, (b, D) each, float32 of unit length; `gathered` returns those of
    all ranks. The model has `logit_scale`, the logarithm of a learned factor of the similarities.

    Example:
        >>> class Pull(EmbeddingObjective):
        ...     def loss(self, model, outputs, inputs, group):
        ...         images, texts = outputs
        ...         return Loss((1 - (images * texts).sum(dim=1)).mean(), {})
    """

    embeds = True
    separable = False
    max_logit_scale: float | None = None
    initial_logit_scale: float = math.log(1 / 0.07)
    initial_logit_bias: float | None = None

    def guess_loss(self, batch_size: int) -> float | None:  # noqa: ARG002
        """See `Objective`."""
        return None

    def build_model(self, settings: ModelSettings | CustomModelSettings) -> nn.Module:
        """See `Objective`: `Clip`, or `CustomTowers` for a model given by dotted name."""
        return build_two_towers(
            settings, init_logit_scale=self.initial_logit_scale, init_logit_bias=self.initial_logit_bias
        )

    def num_terms(self, inputs: Inputs) -> Tensor:
        """See `Objective`: samples."""
        return inputs.images.new_full((), len(inputs.images), dtype=torch.float32)

    def embed(self, model: Any, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return embeddings of images and texts, (b, D) each, unit length."""
        return model.encode_image(inputs.images), model.encode_text(inputs.tokens)

    def after_step(self, model: Any) -> None:
        """See `Objective`: keeps the logit scale at `max_logit_scale` or less."""
        if self.max_logit_scale is not None:
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(self.max_logit_scale))

    @torch.no_grad()
    def score(self, model: Any, images: Tensor, tokens: Tensor) -> Tensor:
        """Return cosines, comparable in rows and columns."""
        scores: Tensor = model.encode_image(images) @ model.encode_text(tokens).T
        return scores


def gathered(
    outputs: tuple[Tensor, ...], group: Group | None, *, counts: list[int] | None = None
) -> tuple[tuple[Tensor, ...], int]:
    """Return the outputs of all ranks in rank order, with gradients, and the first row of this rank in them.

    Args:
        outputs: of this rank, (b, ...) each, with the same b; it may differ between ranks.
        group: None for a single process.
        counts: b of each rank, if all ranks know them: `group.sizes` where there is a row per sample. None: they are
            exchanged between the hosts.
    """
    if group is None:
        return outputs, 0
    counts = group.all_gather_ints(len(outputs[0])) if counts is None else counts
    return tuple(group.gather_with_grad(output, counts) for output in outputs), sum(counts[: group.rank])


def row_offset(rows: int, group: Group) -> int:
    """Return the index of this rank's first row among the rows of all ranks in rank order."""
    return sum(group.all_gather_ints(rows)[: group.rank])


def sample_counts(group: Group | None) -> list[int] | None:
    """Return the samples of each rank in this step, if they are known without an exchange."""
    return None if group is None else group.sizes


def separable_loss(terms: Tensor, group: Group | None, *, metric: str) -> Loss:
    """Return the loss of a separable objective.

    Args:
        terms: (b, 3) float32: each sample's sum of terms, their number, and how many were predicted correctly.
        group: over which the number of terms is summed.
        metric: name of the share of correct predictions.
    """
    value, count, right = terms.sum(dim=0).unbind()
    count = count.detach()
    if group is not None:
        count = group.sum(count)
    count = count.clamp(min=1)  # a batch of empty texts has a loss of zero, not 0 / 0
    return Loss(value / count, {metric: right.detach() / count})


def sum_blocks(term: Callable[[int, int], tuple[Tensor, ...]], rows: int, *, columns: int) -> tuple[Tensor, ...]:
    """Sum `term(start, stop)` over blocks of rows of a (rows, columns) matrix that is never held as a whole.

    A single block is computed directly; several are recomputed one by one in the backward pass, so that memory is
    that of one block (`BLOCK_ELEMENTS`) and gradients are the same.
    """
    step = max(1, BLOCK_ELEMENTS // max(1, columns))
    if step >= rows:
        return term(0, rows)
    total: tuple[Tensor, ...] | None = None
    for start in range(0, rows, step):
        # A term draws no random numbers, so there is no generator state to preserve.
        part = checkpoint(term, start, min(start + step, rows), use_reentrant=False, preserve_rng_state=False)
        total = part if total is None else tuple(a + b for a, b in zip(total, part, strict=True))
    assert total is not None
    return total
