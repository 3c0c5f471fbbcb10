"""Average weights over a run: an exponential moving average (Polyak and Juditsky, 1992)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from openwit.training.engine.parallel import Take, as_it_is, local, placed_like, whole


class Ema:
    """An exponential moving average of a model's parameters, kept in float32 beside them, in the same shards.

    The decay starts low, min(decay, (1 + step) / (10 + step)), so that the influence of the first weights, which are
    noise, fades quickly (as in TensorFlow's ExponentialMovingAverage with `num_updates`). Buffers are not averaged.

    Args:
        model: whose parameters are averaged.
        decay: weight of the old average in each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after a step (counted from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        average = [local(self._average[name]) for name, _ in self._model.named_parameters()]
        now = [local(parameter.detach()) for _, parameter in self._model.named_parameters()]
        torch._foreach_lerp_(average, now, 1 - decay)

    def state(self, take: Take = as_it_is) -> dict[str, Tensor]:
        """Return the averages, unsharded, by the parameters' names (a collective: all ranks must call)."""
        return {name: take(whole(tensor)) for name, tensor in self._average.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, tensor in self._average.items():
            tensor.copy_(placed_like(state[name], tensor))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the model's weights by the averages while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._model.named_parameters():
            held, shown = local(self._average[name]), local(parameter.detach())
            spare = shown.clone()
            shown.copy_(held)
            held.copy_(spare)
