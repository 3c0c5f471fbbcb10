"""What a run writes down and shows of its steps, and the signs of trouble it looks for in them."""

import json
import math
from pathlib import Path

import torch
from torch import nn

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.duration import Horizon, Position
from openwit.training.config.train import TrainConfig
from openwit.training.engine.distributed import Group
from openwit.training.engine.runtime import peak_memory
from openwit.training.models.flops import FORWARD_AND_BACKWARD, image_flops, peak_flops, text_flops
from openwit.training.models.vit import VisionTransformer
from openwit.training.run.guards import Figures, InFlight, Warnings, trouble_in
from openwit.training.run.logs import MetricsLog, NoLog
from openwit.training.run.progress import Display, Status, clock
from openwit.training.run.throughput import Ledger, Rate, Reading

Log = MetricsLog | NoLog

TWO_TOWERS = ("contrastive", "sigmoid")


class FlopCount:
    """Operations that this process has done for its samples since the start; none where the model is not two towers.

    Args:
        model: that is trained.
        config: of the run.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._spec = config.model.resolved()
        visual = getattr(model, "visual", None)
        kept = visual.kept_patches if isinstance(visual, VisionTransformer) else None
        self._image = image_flops(self._spec, kept) if config.objective.name in TWO_TOWERS else None
        self.total = 0.0

    def add(self, samples: int, tokens: int) -> None:
        """Counts a step of so many samples with texts of so many tokens."""
        if self._image is not None:
            self.total += FORWARD_AND_BACKWARD * samples * (self._image + text_flops(self._spec, tokens))


class Reporter:
    """Figures of steps, from the device to people.

    Args:
        config: of the run.
        model: that is trained.
        device: of the model.
        group: the processes that share the batch; None is one.
        horizon: the run's length.
        start: where this start began.
        display: where progress is shown.
        scaled: see `trouble_in`.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        device: torch.device,
        group: Group | None,
        horizon: Horizon,
        start: Position,
        display: Display,
        scaled: bool,
    ) -> None:
        self._config, self._device, self._group = config, device, group
        self._horizon, self._start, self._display, self._scaled = horizon, start, display, scaled
        contrastive = config.objective.name == "contrastive"
        chance = math.log(config.data.batch_size) if contrastive else None
        self._warnings = Warnings(chance, contrastive, start.step)
        self._in_flight = InFlight(device)
        self._peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self._latest: dict[str, float] = {}
        self.flops = FlopCount(model, config)

    def begin(self, log: Log, ledger: Ledger) -> None:
        """Where to write from now on, and the clock to measure by."""
        self._log, self._ledger = log, ledger
        self._shown, self._logged = (Rate(ledger, self._start.samples) for _ in range(2))

    def add(self, figures: Figures, corrupt: int) -> None:
        """Takes a step's figures, and looks at those that have arrived.

        Args:
            figures: of a step that is under way.
            corrupt: unreadable samples so far.

        Raises:
            OpenWITError: a figure is not finite.
        """
        with self._ledger.span("log"):
            for arrived in self._in_flight.add(figures):
                self._record(arrived, corrupt)
            if self._latest and self._display.wants():
                self._display.show(self._status(figures.position, figures.lr))

    def drain(self, corrupt: int) -> None:
        """Looks at all figures that are left, waiting for them.

        Raises:
            OpenWITError: a figure is not finite.
        """
        with self._ledger.span("log"):
            for arrived in self._in_flight.drain():
                self._record(arrived, corrupt)

    def refuse_trouble(self, step: int, figures: dict[str, float], keys: list[str]) -> None:
        """Ends the run for a figure that is not finite.

        Args:
            step: counted from 1.
            figures: of the step, over all ranks.
            keys: samples of this rank.

        Raises:
            OpenWITError: with the step, the norms and where the samples' keys are.
        """
        what = trouble_in(figures, self._scaled)
        if what is None:
            return
        keys = keys if self._group is None else [key for part in self._group.objects(keys) for key in part]
        path: Path = self._config.run / "non_finite.json"
        if self._group is None or self._group.main:
            shown = {name: str(figure) for name, figure in figures.items()}
            atomic_write(path, json.dumps({"step": step, **shown, "keys": keys}, indent=1) + "\n")
        raise OpenWITError(
            f"{what} in step {step} (samples {', '.join(keys[:3])} and {max(0, len(keys) - 3)} more, all in {path}); "
            "the weights of the last checkpoint are untouched: lower optim.lr or set optim.grad_clip"
        )

    def close_books(self, position: Position, unreadable: int) -> None:
        """Where the time of this start went."""
        spent = self._ledger.spent()
        self._log.write("time", position.step, spent)
        whole = sum(spent.values())
        shares = ", ".join(f"{name} {100 * seconds / whole:.1f}%" for name, seconds in spent.items())
        bad = f"; {unreadable} samples were unreadable" if unreadable else ""
        self._display.say(
            f"finished at step {position.step}, {position.samples} samples, "
            f"{self._horizon.measure(position, 'epochs'):.1f} epochs; this start took {clock(whole)}: {shares}{bad}"
        )

    def _record(self, arrived: Figures, corrupt: int) -> None:
        position, figures = arrived.position, arrived.read()
        self.refuse_trouble(position.step, figures, arrived.keys)
        self._latest = figures
        if position.step % self._config.log.every:
            return
        reading = self._logged.read(position.samples, self.flops.total)
        record = {
            "loss": figures["loss"],
            "lr": arrived.lr,
            **figures,
            "samples": position.samples,
            "epoch": self._horizon.measure(position, "epochs"),
            "elapsed": position.elapsed,
            "samples_per_second": reading.samples_per_second,
            "loader_wait": reading.wait,
            "corrupt": corrupt,
            "peak_memory": peak_memory(self._device),
            "flops_per_second": reading.flops_per_second,
        }
        mfu = self._mfu(reading)
        self._log.write("train", position.step, record if mfu is None else {**record, "mfu": mfu})
        watched = {**record, "seconds": reading.seconds}
        for warned in self._warnings.record(position.step, self._horizon.done(position), watched):
            self._log.warn(position.step, warned.cause, warned.sentence)
            self._display.say(f"warning: {warned.sentence}")

    def _mfu(self, reading: Reading) -> float | None:
        return None if self._peak is None else reading.flops_per_second / self._peak

    def _status(self, position: Position, lr: float) -> Status:
        reading = self._shown.read(position.samples, self.flops.total)
        gained = position.samples - self._start.samples
        left: float | None
        total = self._horizon.total_samples
        if total is not None:
            left = (total - position.samples) * self._ledger.here / gained if gained else None
        else:
            left = max(0.0, (self._horizon.total_seconds or 0.0) - position.elapsed)
        return Status(
            position.step,
            self._horizon.total_steps,
            position.samples,
            reading.samples_per_second,
            self._latest["loss"],
            self._latest.get("logit_scale"),
            lr,
            reading.wait,
            self._horizon.done(position),
            left,
            self._mfu(reading),
            peak_memory(self._device) if self._device.type == "cuda" else None,
        )
