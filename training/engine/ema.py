"""Weights averaged over a run: an exponential moving average (Polyak and Juditsky, 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from openwit.training.engine.parallel import local, placed_like, whole


class Ema:
    """An exponential moving average of a model's parameters, kept in float32 beside them, in the same shards.

    The decay begins low, min(decay, (1 + step) / (10 + step)), so that the first weights, which are noise, are soon
    forgotten (as TensorFlow's ExponentialMovingAverage with `num_updates`). Buffers are not averaged.

    Args:
        model: whose parameters are followed.
        decay: what is kept of the average in each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average after a step (counted from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        average = [local(self._average[name]) for name, _ in self._model.named_parameters()]
        now = [local(parameter.detach()) for _, parameter in self._model.named_parameters()]
        torch._foreach_lerp_(average, now, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """The averages, whole, by the parameters' names (all ranks must ask)."""
        return {name: whole(tensor) for name, tensor in self._average.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` answered."""
        for name, tensor in self._average.items():
            tensor.copy_(placed_like(state[name], tensor))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While the block runs, the model has the averages for weights."""
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
