"""One update of the weights: a batch to gradients, gradients to weights. Never waits for the device.

A step whose loss or gradient is not finite leaves the weights as they were, on the device's own word; the host learns
of it later and ends the run (`guards`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config.train import TrainConfig
from openwit.training.data.sampling import step_seed
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
from openwit.training.models.vit import RowChance, VisionTransformer
from openwit.training.objectives.base import Inputs, Objective

# Compiled towers see lengths of text that are multiples of this: few shapes, little padding.
COMPILED_LENGTHS = 16


class Stepper:
    """A model with everything that moves it.

    Args:
        config: the run.
        model: already where it is to be, sharded if it is to be.
        objective: what it learns.
        device: of the model.
        autocast: precision of the towers.
        group: the processes that share the batch; None is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
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
        self._bad = torch.tensor(0.0, device=device)

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled (fp16), so that a gradient that overflows is nothing to worry about."""
        return self._scale is not None

    def gradients(self, images: Tensor, tokens: Tensor, step: int, rows: list[int]) -> dict[str, Tensor]:
        """Computes a step's gradients; answers its figures, still on the device.

        Args:
            images: (b, 3, H, W) of this process, normalised.
            tokens: (b, L) of this process.
            step: number from 0; with the seed it decides the step's chance.
            rows: how many samples each rank has.
        """
        chunk = self._config.memory.chunk
        most = 1 if chunk is None else max(1, *(-(-count // chunk) for count in rows))
        rank = 0 if self._group is None else self._group.rank
        hooks = self._hooks(step, sum(rows[:rank]), most)
        inputs = Inputs(images, self._padded(tokens) if self._config.speed.compile else tokens)
        scale = None if self._scale is None else self._scale.value
        loss = backward(self._objective, self._model, inputs, self._autocast, chunk, scale, self._group, hooks)
        figures = {"loss": loss.value, **loss.metrics}
        if self._group is not None:
            reduce_gradients(self._model, self._group)
            total = self._group.sum(torch.stack([value.float() for value in figures.values()]))
            figures = dict(zip(figures, total.unbind(), strict=True))
        norm = gradient_norm(self._parameters, self._group)
        figures["grad_norm"] = norm if scale is None else norm / scale
        if scale is not None:
            figures["loss_scale"] = scale
        temperature = getattr(self._model, "logit_scale", None)
        if isinstance(temperature, Tensor):
            figures["logit_scale"] = temperature.detach().exp()
        return figures

    def apply(self, figures: dict[str, Tensor], step: int, lr: float) -> None:
        """Moves the weights by the gradients at hand, unless the figures are not finite, and forgets the gradients."""
        norm = figures["grad_norm"]
        self._bad = 1 - (figures["loss"].isfinite() & norm.isfinite()).float()
        self._shrink(norm)
        set_learning_rate(self._optimizer, lr)
        self._optimizer.found_inf = self._bad  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._objective.after_step(self._model)
        if self._scale is not None:
            self._scale.update(self._bad)
        if self.ema is not None:
            self.ema.update(step)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold, whole (all ranks must ask)."""
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
        """Takes up what `state` answered, whole and on every rank.

        Raises:
            RuntimeError: it is of another architecture.
        """
        load_full_state(self._model, state["model"])
        restore_optimizer(self._optimizer, self._model, state["optimizer"])
        if self.ema is not None:
            # A run of an older release has none; its average begins with its weights.
            self.ema.restore(state.get("ema", state["model"]))
        if self._scale is not None and "loss_scale" in state:
            self._scale.restore(state["loss_scale"])

    def _hooks(self, step: int, first: int, chunks: int) -> Hooks:
        seed = step_seed(self._config.seed, step)
        torch.manual_seed(seed)
        visual = getattr(self._model, "visual", None)

        def before(start: int) -> None:
            if isinstance(visual, VisionTransformer):
                visual.chance = RowChance(seed, first + start)
            if self._sharded:
                send_gradients(self._model, False)

        def last() -> None:
            if self._sharded:
                send_gradients(self._model, True)

        return Hooks(before, last, chunks if self._sharded else 1)

    def _padded(self, tokens: Tensor) -> Tensor:
        """(b, L) to (b, L'), L' a multiple of `COMPILED_LENGTHS` or the whole context."""
        spec: Any = self._model.spec
        length = min(-(-tokens.shape[1] // COMPILED_LENGTHS) * COMPILED_LENGTHS, spec.text.context_length)
        return F.pad(tokens, (0, length - tokens.shape[1]))

    def _shrink(self, norm: Tensor) -> None:
        """Takes the loss's scale out of the gradients, and clips them (as `nn.utils.clip_grad_norm_`)."""
        clip = self._config.optim.grad_clip
        if clip is None and self._scale is None:
            return
        factor = torch.ones_like(norm) if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
        if self._scale is not None:
            factor = factor / self._scale.value
        torch._foreach_mul_([local(p.grad) for p in self._parameters if p.grad is not None], factor)
