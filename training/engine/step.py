"""Update the weights: from a batch to gradients, from gradients to weights. Never synchronises with the device.

A step whose loss or gradient is not finite does not change the weights; this is decided on the device. The host reads
the metrics later and ends the run (`openwit.training.run.guards`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config import TrainConfig
from openwit.training.engine.build_model import uses_cuda_graphs
from openwit.training.engine.distributed import Group
from openwit.training.engine.ema import Ema
from openwit.training.engine.gradcache import Hooks, Part, Rows, backward_parts, chunks_of
from openwit.training.engine.loss_scale import LossScale
from openwit.training.engine.optim import (
    knows_found_inf,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
    set_learning_rate,
    take_step,
)
from openwit.training.engine.parallel import (
    Take,
    as_it_is,
    full_state,
    gradient_norm,
    load_full_state,
    local,
    reduce_gradients,
    reshard,
    send_gradients,
)
from openwit.training.engine.runtime import lowered_dtype
from openwit.training.models.text import TextTransformer
from openwit.training.models.vit import PatchDropoutRng, VisionTransformer
from openwit.training.objectives.base import Inputs, Objective

# Text lengths of compiled towers are multiples of this: few shapes, little padding.
COMPILED_LENGTHS = 16


def step_seed(seed: int, step: int) -> int:
    """Return the seed of the model's random draws (patch dropout) in a step."""
    return xxhash.xxh3_64_intdigest(f"step {step}".encode(), seed=seed) >> 1


def ignores_padding(model: nn.Module) -> bool:
    """Return whether each chunk's texts may be trimmed to their own longest: attention is known to be causal."""
    text = getattr(model, "text", None)
    return isinstance(text, TextTransformer) and text.transformer.causal


def of_one_length(parts: list[Part]) -> list[Part]:
    """Pad the texts of all chunks to the longest of the batch, as a model may see what follows a text's end."""
    length = max((part.inputs.tokens.shape[1] for part in parts), default=0)

    def padded(inputs: Inputs) -> Inputs:
        return Inputs(inputs.images, F.pad(inputs.tokens, (0, length - inputs.tokens.shape[1])))

    return [Part(padded(part.inputs), part.rows) for part in parts]


class Stepper:
    """A model with its optimiser, loss scale and moving average.

    Args:
        config: of the run.
        model: on its device, already sharded if it is to be.
        objective: the loss to minimise.
        device: of the model.
        autocast: precision of the towers.
        group: the processes that share the batch; None for a single process.
        normaliser: uint8 (b, H, W, 3) to float32 (b, 3, H, W); None: images come normalised.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        *,
        objective: Objective,
        device: torch.device,
        autocast: torch.autocast,
        group: Group | None,
        normaliser: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._config = config
        self._model = model
        self._objective = objective
        self._device = device
        self._autocast = autocast
        self._group = group
        self._normaliser = normaliser
        self._cuda_graphs = uses_cuda_graphs(config, device)
        self._trims = ignores_padding(model)
        self._sharded = group is not None and config.distributed.strategy == "fsdp"
        self._optimizer = make_optimizer(model, config.optim, head_apart=config.schedule.head_warmup.value > 0)
        self._knows_found_inf = knows_found_inf(self._optimizer)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._scale = LossScale(device) if lowered_dtype(device, config.precision) == torch.float16 else None
        self.ema = Ema(model, config.ema.decay) if config.ema.decay is not None else None
        self._found_inf = torch.tensor(0.0, device=device)
        self._kept: list[tuple[Tensor, Tensor]] = []

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled (fp16), so that overflowing gradients are expected."""
        return self._scale is not None

    def forward_backward(
        self, images: Tensor, tokens: Tensor, *, step: int, rank_sizes: list[int]
    ) -> dict[str, Tensor]:
        """Compute a step's gradients from the whole batch; see `gradients`.

        Args:
            images: of this process: (b, 3, H, W) float32, normalised, or uint8 (b, H, W, 3).
            tokens: (b, L) int64 of this process.
            step: number from 0; with the seed it determines the step's random numbers.
            rank_sizes: number of samples of each rank.
        """
        chunk = self._config.memory.chunk
        rank = 0 if self._group is None else self._group.rank
        return self.gradients(
            chunks_of(Inputs(images, tokens), chunk),
            step=step,
            first=sum(rank_sizes[:rank]),
            chunks=[1 if chunk is None else -(-count // chunk) for count in rank_sizes],
            agree=lambda _: rank_sizes,
        )

    def gradients(
        self,
        parts: Iterable[Part],
        *,
        step: int,
        first: int,
        chunks: list[int],
        agree: Callable[[int], list[int]],
    ) -> dict[str, Tensor]:
        """Compute a step's gradients; return its metrics as device tensors, each ().

        Args:
            parts: the chunks of this process, one by one: the first is embedded before the second is asked for.
            step: number from 0; with the seed it determines the step's random numbers.
            first: position of this process's first sample in the whole batch.
            chunks: number of chunks of each rank.
            agree: given the samples of this rank, returns those of each; called once, before the loss.
        """
        rank = 0 if self._group is None else self._group.rank
        if self._cuda_graphs:
            # A gradient that begins as a graph's output would be overwritten when the graph runs for the next chunk.
            for parameter in self._parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self._keep_buffers()
        scale = None if self._scale is None else self._scale.value
        try:
            loss = backward_parts(
                self._objective,
                self._model,
                parts if self._trims else of_one_length(list(parts)),
                several=chunks[rank] > 1,
                autocast=self._autocast,
                scale=scale,
                group=self._group,
                hooks=self._hooks(step, first, max(1, *chunks), agree),
            )
        finally:
            if self._group is not None:
                self._group.sizes = None
        metrics = {"loss": loss.value, **loss.metrics}
        if self._sharded and self._config.model.lock is not None:
            reshard(self._model)  # a locked tower has no backward pass that would
        if self._group is not None:
            reduce_gradients(self._model, self._group)
            total = self._group.sum(torch.stack([value.float() for value in metrics.values()]))
            metrics = dict(zip(metrics, total.unbind(), strict=True))
        norm = gradient_norm(self._parameters, self._group)
        metrics["grad_norm"] = norm if scale is None else norm / scale
        if scale is not None:
            metrics["loss_scale"] = scale
        temperature = getattr(self._model, "logit_scale", None)
        if isinstance(temperature, Tensor):
            metrics["logit_scale"] = temperature.detach().exp()
        return metrics

    @property
    def waits(self) -> bool:
        """Whether each step waits for the device to see if it must be left out: the optimiser cannot do it there."""
        return not self._knows_found_inf

    def step(self, metrics: dict[str, Tensor], *, step: int, lr: float, head_lr: float | None = None) -> None:
        """Update the weights unless loss or gradient norm is not finite, and clear the gradients.

        Args:
            metrics: of `gradients`.
            step: counted from 0.
            lr: learning rate.
            head_lr: that of the head, if it has its own.

        Raises:
            RecipeError: an optimiser given by dotted name cannot update these weights.
        """
        norm = metrics["grad_norm"]
        self._found_inf = 1 - (metrics["loss"].isfinite() & norm.isfinite()).float()
        self._restore_buffers()
        self._unscale_and_clip(norm)
        set_learning_rate(self._optimizer, lr, head_lr)
        if self._knows_found_inf:
            self._optimizer.found_inf = self._found_inf  # type: ignore[union-attr]
            take_step(self._optimizer, self._config.optim)
        elif not bool(self._found_inf):
            take_step(self._optimizer, self._config.optim)
        self._optimizer.zero_grad(set_to_none=not self._cuda_graphs)
        self._objective.after_step(self._model)
        if self._scale is not None:
            self._scale.update(self._found_inf)
        if self.ema is not None:
            self.ema.update(step)

    def state(self, take: Take = as_it_is) -> dict[str, Any]:
        """Return the state for a checkpoint, unsharded (a collective: all ranks must call).

        Args:
            take: given each full tensor before the next is put together; its result is in the state.
        """
        state: dict[str, Any] = {
            "model": full_state(self._model, take),
            "optimizer": optimizer_state(self._optimizer, self._model, take),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state(take)
        if self._scale is not None:
            state["loss_scale"] = {name: take(value) for name, value in self._scale.state().items()}
        return state

    def restore(self, state: Mapping[str, Any], *, optimizer: bool = True) -> None:
        """Restore what `state` returned, unsharded and on every rank; its tensors are asked for one by one.

        Args:
            state: with full tensors.
            optimizer: whether the optimiser's state is restored, too.

        Raises:
            RuntimeError: it belongs to another architecture.
        """
        load_full_state(self._model, state["model"])
        if optimizer:
            restore_optimizer(self._optimizer, self._model, state["optimizer"])
        if self.ema is not None:
            # Checkpoints of older releases have none; the average then begins with the weights.
            self.ema.restore(state.get("ema", state["model"]))
        if self._scale is not None and "loss_scale" in state:
            self._scale.restore(state["loss_scale"])

    def _keep_buffers(self) -> None:
        """Keep running statistics, into which a step that is left out must not go."""
        if self._config.optim.skip_non_finite:
            buffers = (buffer for buffer in self._model.buffers() if buffer.is_floating_point())
            self._kept = [(buffer, buffer.clone()) for buffer in buffers]

    def _restore_buffers(self) -> None:
        for buffer, kept in self._kept:
            buffer.copy_(torch.where(self._found_inf > 0, kept, buffer))
        self._kept = []

    def _hooks(self, step: int, first: int, chunks: int, agree: Callable[[int], list[int]]) -> Hooks:
        seed = step_seed(self._config.seed, step)
        torch.manual_seed(seed)
        visual = getattr(self._model, "visual", None)

        def before_embed(rows: Rows) -> None:
            if isinstance(visual, VisionTransformer):
                places = first + rows if isinstance(rows, int) else tuple(first + row for row in rows)
                visual.patch_dropout_rng = PatchDropoutRng(seed, places)
            if self._sharded:
                send_gradients(self._model, False)
            if self._cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

        def before_loss(samples: int) -> None:
            sizes = agree(samples)
            if self._group is not None:
                self._group.sizes = sizes

        def before_last_backward() -> None:
            if self._sharded:
                send_gradients(self._model, True)

        return Hooks(
            before_embed,
            before_last_backward,
            chunks if self._sharded else 1,
            self._prepared,
            before_loss,
            self._cuda_graphs,
        )

    def _prepared(self, inputs: Inputs) -> Inputs:
        """Return a chunk as the towers take it: images that are bytes normalised, texts of few lengths if compiled."""
        images, tokens = inputs
        if not images.is_floating_point():
            assert self._normaliser is not None, "bytes are given to a Stepper that was made for floats"
            images = self._normaliser(images)
        return Inputs(images, self._padded(tokens) if self._config.speed.compile else tokens)

    def _padded(self, tokens: Tensor) -> Tensor:
        """Pad (b, L) to (b, L'), L' a multiple of `COMPILED_LENGTHS` or the context length."""
        inputs: Any = self._model.inputs
        length = min(-(-tokens.shape[1] // COMPILED_LENGTHS) * COMPILED_LENGTHS, inputs.context_length)
        return F.pad(tokens, (0, length - tokens.shape[1]))

    def _unscale_and_clip(self, norm: Tensor) -> None:
        """Remove the loss scale from the gradients and clip them (as `nn.utils.clip_grad_norm_`)."""
        clip = self._config.optim.grad_clip
        if clip is None and self._scale is None:
            return
        factor = torch.ones_like(norm) if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
        if self._scale is not None:
            factor = factor / self._scale.value
        torch._foreach_mul_([local(p.grad) for p in self._parameters if p.grad is not None], factor)
