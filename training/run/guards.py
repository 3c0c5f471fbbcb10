"""What must not go on unseen: figures that are not finite end a run, and four signs of trouble are warned of, once."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from openwit.training.config.duration import Position

# Steps that a GPU may be behind the host before the host looks at their figures; by then they are computed.
GPU_LAG = 2

# The loss of a model that knows nothing is ln(batch); so much of it still counts as not having moved.
NOT_MOVED = 0.98
# Before this share of the run, and before so many records, nothing is said of the loss.
MOVED_BY, RECORDS = 0.1, 5
CLAMPED, CLAMPED_STEPS = 99.9, 1_000
STARVING = 0.2
# The first batches are waited for by nature, and the first steps compile: what they took says nothing of the rest.
# From then on so much time is looked at before anything is said.
SETTLING_STEPS, SETTLED_SECONDS = 20, 30.0


@dataclass(frozen=True)
class Figures:
    """What a step has computed, still on its way from the device.

    Attributes:
        position: where the run stands after the step.
        lr: learning rate of the step.
        keys: samples of this process.
        names: of the values.
        values: (len(names),) float32; on a GPU they are in page-locked memory and arrive with `arrived`.
        arrived: None where they are there already.
    """

    position: Position
    lr: float
    keys: list[str]
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event | None = None

    @classmethod
    def of(cls, position: Position, lr: float, keys: list[str], figures: dict[str, Tensor]) -> "Figures":
        """Sends the figures of a step on their way to the host, without waiting."""
        values = torch.stack([value.detach().float() for value in figures.values()])
        if not values.is_cuda:
            return cls(position, lr, keys, tuple(figures), values)
        host = torch.empty(values.shape, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return cls(position, lr, keys, tuple(figures), host, arrived)

    def read(self) -> dict[str, float]:
        """The figures by name; waits for them."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


class InFlight:
    """Figures of the last steps, in order. The host reads those that a GPU has surely finished, and never waits.

    Which steps are read when depends on the number of steps alone, so that all ranks find trouble in the same step.

    Args:
        device: where the steps are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._lag = GPU_LAG if device.type == "cuda" else 0
        self._waiting: deque[Figures] = deque()

    def add(self, figures: Figures) -> list[Figures]:
        """Takes a step's figures; answers those to be read now."""
        self._waiting.append(figures)
        return [self._waiting.popleft() for _ in range(len(self._waiting) - self._lag)]

    def drain(self) -> list[Figures]:
        """All that are left; reading them waits for the device."""
        left = list(self._waiting)
        self._waiting.clear()
        return left


def trouble_in(figures: dict[str, float], scaled: bool) -> str | None:
    """Which figure ends the run, in words; None if none does.

    Args:
        figures: `loss` and `grad_norm`, and with fp16 the `loss_scale` of the step.
        scaled: whether the loss was scaled. Then gradients that overflow are of the day; the step was left out and
            the scale halves. Only where the scale has nothing left to give is it trouble.
    """
    if not math.isfinite(figures["loss"]):
        return f"the loss is {figures['loss']}"
    if math.isfinite(figures["grad_norm"]) or (scaled and figures["loss_scale"] > 1):
        return None
    return f"the gradient's norm is {figures['grad_norm']} (loss {figures['loss']:.4g})"


@dataclass(frozen=True)
class Warned:
    """A warning: its cause from a closed list, and a sentence."""

    cause: str
    sentence: str


class Warnings:
    """Watches the records of a run; each cause is told once a start.

    Args:
        chance_loss: loss of a model that knows nothing; None where that is not known.
        clamp: whether the logit scale has a clamp at 100.
        start: step that this start began from.
    """

    def __init__(self, chance_loss: float | None, clamp: bool, start: int = 0) -> None:
        self._chance = chance_loss
        self._clamp = clamp
        self._told: set[str] = set()
        self._losses: deque[float] = deque(maxlen=RECORDS)
        self._clamped_since: int | None = None
        self._settled = start + SETTLING_STEPS
        self._before = start
        self._waiting = self._seconds = 0.0

    def record(self, step: int, done: float, figures: dict[str, float]) -> list[Warned]:
        """What is to be said of a record.

        Args:
            step: of the record.
            done: share of the run that is behind it.
            figures: `loss`, `logit_scale`, `loader_wait` and `seconds` since the last record, as far as there are any.
        """
        found = [self._still(step, done, figures), self._stuck(step, figures), self._starving(step, figures)]
        fresh = [warned for warned in found if warned is not None and warned.cause not in self._told]
        self._told.update(warned.cause for warned in fresh)
        return fresh

    def _still(self, step: int, done: float, figures: dict[str, float]) -> Warned | None:
        self._losses.append(figures["loss"])
        if self._chance is None or done < MOVED_BY or len(self._losses) < RECORDS:
            return None
        mean = sum(self._losses) / len(self._losses)
        if mean < NOT_MOVED * self._chance:
            return None
        return Warned(
            "loss_not_moving",
            f"after {100 * done:.0f}% of the run (step {step}) the loss is {mean:.3f}, that of guessing "
            f"(ln of the batch size is {self._chance:.3f}): try another optim.lr, or look whether texts fit images",
        )

    def _stuck(self, step: int, figures: dict[str, float]) -> Warned | None:
        if not self._clamp or figures.get("logit_scale", 0.0) < CLAMPED:
            self._clamped_since = None
            return None
        if self._clamped_since is None:
            self._clamped_since = step
        if step - self._clamped_since < CLAMPED_STEPS:
            return None
        return Warned(
            "logit_scale_clamped",
            f"the logit scale has been at its clamp of 100 since step {self._clamped_since}: the model is as sure as "
            "it may be; more varied data or a smaller optim.lr would keep it below",
        )

    def _starving(self, step: int, figures: dict[str, float]) -> Warned | None:
        # A record speaks of the steps since the last one, so all of those must have settled.
        before, self._before = self._before, step
        if before < self._settled:
            return None
        self._seconds += figures.get("seconds", 0.0)
        self._waiting += figures.get("seconds", 0.0) * figures.get("loader_wait", 0.0)
        if self._seconds < SETTLED_SECONDS or self._waiting < STARVING * self._seconds:
            return None
        return Warned(
            "loader_starving",
            f"{100 * self._waiting / self._seconds:.0f}% of the time went into waiting for the loader: raise "
            "data.workers, or keep images in the dataset closer to the model's size",
        )
