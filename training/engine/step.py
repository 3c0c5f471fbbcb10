"""Update the weights: from a batch to gradients, from gradients to weights. Never synchronises with the device.

A step whose loss or gradient is not finite does not change the weights; this is decided on the device. The host reads
the metrics later and ends the run (`openwit.training.run.guards`).
"""

from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config import TrainConfig
from openwit.training.engine.distributed import Group
from openwit.training.engine.ema import Ema
from openwit.training.engine.gradcache import Hooks, backward
from openwit.training.engine.loss_scale import LossScale
from openwit.training.engine.optim import make_optimizer, optimizer_state, restore_optimizer, set_learning_rate
from openwit.training.engine.parallel import (
    full_state,
    gradient_norm,
    load_full_state,
    local,
    reduce_gradients,
    send_gradients,
)
from openwit.training.models.vit import PatchDropoutRng, VisionTransformer
from openwit.training.objectives.base import Inputs, Objective

# Text lengths of compiled towers are multiples of this: few shapes, little padding.
COMPILED_LENGTHS = 16


def step_seed(seed: int, step: int) -> int:
    """Return the seed of the model's random draws (patch dropout) in a step."""
    return xxhash.xxh3_64_intdigest(f"step {step}".encode(), seed=seed) >> 1


class Stepper:
    """A model with its optimiser, loss scale and moving average.

    Args:
        config: of the run.
        model: on its device, already sharded if it is to be.
        objective: the loss to minimise.
        device: of the model.
        autocast: precision of the towers.
        group: the processes that share the batch; None for a single process.
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
    ) -> None:
        self._config = config
        self._model = model
        self._objective = objective
        self._device = device
        self._autocast = autocast
        self._group = group
        self._sharded = group is not None and config.distributed.strategy == "fsdp"
        self._optimizer = make_optimizer(model, config.optim)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._scale = LossScale(device) if config.precision == "fp16" else None
        self.ema = Ema(model, config.ema.decay) if config.ema.decay is not None else None
        self._found_inf = torch.tensor(0.0, device=device)

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled (fp16), so that overflowing gradients are expected."""
        return self._scale is not None

    def forward_backward(
        self, images: Tensor, tokens: Tensor, *, step: int, rank_sizes: list[int]
    ) -> dict[str, Tensor]:
        """Compute a step's gradients; return its metrics as device tensors, each ().

        Args:
            images: (b, 3, H, W) float32 of this process, normalised.
            tokens: (b, L) int64 of this process.
            step: number from 0; with the seed it determines the step's random numbers.
            rank_sizes: number of samples of each rank.
        """
        chunk = self._config.memory.chunk
        chunks = 1 if chunk is None else max(1, *(-(-count // chunk) for count in rank_sizes))
        rank = 0 if self._group is None else self._group.rank
        hooks = self._hooks(step, sum(rank_sizes[:rank]), chunks)
        inputs = Inputs(images, self._padded(tokens) if self._config.speed.compile else tokens)
        scale = None if self._scale is None else self._scale.value
        loss = backward(
            self._objective,
            self._model,
            inputs,
            autocast=self._autocast,
            chunk=chunk,
            scale=scale,
            group=self._group,
            hooks=hooks,
        )
        metrics = {"loss": loss.value, **loss.metrics}
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

    def step(self, metrics: dict[str, Tensor], *, step: int, lr: float) -> None:
        """Update the weights unless loss or gradient norm is not finite, and clear the gradients."""
        norm = metrics["grad_norm"]
        self._found_inf = 1 - (metrics["loss"].isfinite() & norm.isfinite()).float()
        self._unscale_and_clip(norm)
        set_learning_rate(self._optimizer, lr)
        self._optimizer.found_inf = self._found_inf  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._objective.after_step(self._model)
        if self._scale is not None:
            self._scale.update(self._found_inf)
        if self.ema is not None:
            self.ema.update(step)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, unsharded (a collective: all ranks must call)."""
        state: dict[str, Any] = {
            "model": full_state(self._model),
            "optimizer": optimizer_state(self._optimizer, self._model),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state()
        if self._scale is not None:
            state["loss_scale"] = self._scale.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned, unsharded and on every rank.

        Raises:
            RuntimeError: it belongs to another architecture.
        """
        load_full_state(self._model, state["model"])
        restore_optimizer(self._optimizer, self._model, state["optimizer"])
        if self.ema is not None:
            # Checkpoints of older releases have none; the average then begins with the weights.
            self.ema.restore(state.get("ema", state["model"]))
        if self._scale is not None and "loss_scale" in state:
            self._scale.restore(state["loss_scale"])

    def _hooks(self, step: int, row_offset: int, chunks: int) -> Hooks:
        seed = step_seed(self._config.seed, step)
        torch.manual_seed(seed)
        visual = getattr(self._model, "visual", None)

        def before_embed(start: int) -> None:
            if isinstance(visual, VisionTransformer):
                visual.patch_dropout_rng = PatchDropoutRng(seed, row_offset + start)
            if self._sharded:
                send_gradients(self._model, False)

        def before_last_backward() -> None:
            if self._sharded:
                send_gradients(self._model, True)

        return Hooks(before_embed, before_last_backward, chunks if self._sharded else 1)

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
