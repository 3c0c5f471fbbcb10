"""Metrics of steps: logged, displayed, and checked."""

import torch
from torch import nn

from openwit.schemas.common.wording import counted
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Horizon, Position
from openwit.training.engine.distributed import Group
from openwit.training.engine.runtime import peak_memory
from openwit.training.models.clip import Clip
from openwit.training.models.flops import FORWARD_AND_BACKWARD, image_flops, peak_flops, text_flops
from openwit.training.models.vit import VisionTransformer
from openwit.training.objectives.base import Objective
from openwit.training.run.guards import PendingMetrics, StepMetrics, Warnings
from openwit.training.run.launching import LaunchWatch
from openwit.training.run.logs import MetricsLog, NoLog
from openwit.training.run.non_finite import NonFiniteSteps
from openwit.training.run.progress import Display, Status, clock
from openwit.training.run.throughput import Ledger, Rate, Reading

Log = MetricsLog | NoLog

_EVIDENCE_STEPS = 5


class FlopCount:
    """Operations of this process since the start; counted for `Clip` only.

    Args:
        model: that is trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._spec = model.spec if isinstance(model, Clip) else None
        visual = getattr(model, "visual", None)
        kept = visual.kept_patches if isinstance(visual, VisionTransformer) else None
        self._image = 0 if self._spec is None else image_flops(self._spec, kept)
        self.total = 0.0

    def add(self, samples: int, tokens: int) -> None:
        """Count a step.

        Args:
            samples: of this process.
            tokens: per text.
        """
        if self._spec is not None:
            self.total += FORWARD_AND_BACKWARD * samples * (self._image + text_flops(self._spec, tokens))


class Reporter:
    """Takes the metrics of steps from the device to the log and the display.

    Args:
        config: of the run.
        model: that is trained.
        objective: what it is trained for.
        device: of the model.
        group: the processes that share the batch; None for a single process.
        horizon: the run's length.
        start: position at which this start began.
        display: shows progress.
        scaled: see `non_finite`.
        log: where records are written.
        ledger: the clock.
        skipped: steps left out by earlier starts.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        *,
        objective: Objective,
        device: torch.device,
        group: Group | None,
        horizon: Horizon,
        start: Position,
        display: Display,
        scaled: bool,
        log: Log,
        ledger: Ledger,
        skipped: int = 0,
    ) -> None:
        self._config, self._device, self._group = config, device, group
        self._horizon, self._start, self._display = horizon, start, display
        self.non_finite = NonFiniteSteps(config, group=group, scaled=scaled, before=skipped, say=display.say)
        guess_loss = objective.guess_loss(config.data.batch_size)
        self._warnings = Warnings(
            guess_loss,
            objective.max_logit_scale,
            start=start.step,
            threads=config.data.workers if config.data.workers_in == "threads" else 0,
        )
        self._pending = PendingMetrics(device)
        self.log, self.ledger = log, ledger
        self._shown, self._logged = (Rate(ledger, start.samples) for _ in range(2))
        self._peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self._latest: dict[str, float] = {}
        self.flops = FlopCount(model)
        self.launching = LaunchWatch(device)

    def add(self, metrics: StepMetrics, corrupt: int) -> None:
        """Add a step's metrics, and handle those that have arrived.

        Args:
            metrics: of a step that may still be computed.
            corrupt: unreadable samples so far.

        Raises:
            DataError: a metric is not finite.
        """
        with self.ledger.span("log"):
            for arrived in self._pending.add(metrics):
                self._record(arrived, corrupt)
            if self._latest and self._display.wants():
                self._display.show(self._status(metrics.position, metrics.lr))

    def drain(self, corrupt: int) -> None:
        """Handle all remaining metrics, waiting for them.

        Raises:
            DataError: a metric is not finite.
        """
        with self.ledger.span("log"):
            for arrived in self._pending.drain():
                self._record(arrived, corrupt)

    def log_time_summary(self, position: Position, unreadable: int) -> None:
        """Log and show how the time of this start was spent."""
        spent = self.ledger.spent()
        self.log.write("time", position.step, spent)
        whole = sum(spent.values())
        shares = ", ".join(f"{name} {100 * seconds / whole:.1f}%" for name, seconds in spent.items())
        bad = f"; {counted(unreadable, 'unreadable sample')}" if unreadable else ""
        left_out = self.non_finite.count
        bad += f"; {counted(left_out, 'step')} left out as not finite" if left_out else ""
        self._display.say(
            f"finished at step {position.step}, {counted(position.samples, 'sample')}, "
            f"{self._horizon.measure(position, 'epochs'):.1f} epochs; this start took {clock(whole)}: {shares}{bad}"
        )

    def _record(self, arrived: StepMetrics, corrupt: int) -> None:
        position, metrics = arrived.position, arrived.read()
        self.non_finite.check(position.step, metrics, keys=arrived.keys)
        self._latest = metrics
        if position.step % self._config.log.every:
            return
        reading = self._logged.read(position.samples, self.flops.total)
        record = {
            "loss": metrics["loss"],
            "lr": arrived.lr,
            **metrics,
            "samples": position.samples,
            "epoch": self._horizon.measure(position, "epochs"),
            "elapsed": position.elapsed,
            "samples_per_second": reading.samples_per_second,
            "loader_wait": reading.wait,
            **self.launching.read(),
            "corrupt": corrupt,
            **({"skipped": self.non_finite.count} if self._config.optim.skip_non_finite else {}),
            "peak_memory": peak_memory(self._device),
            "flops_per_second": reading.flops_per_second,
        }
        mfu = self._mfu(reading)
        self.log.write("train", position.step, record if mfu is None else {**record, "mfu": mfu})
        watched = {**record, "seconds": reading.seconds}
        for warning in self._warnings.record(position.step, done=self._horizon.done(position), metrics=watched):
            self.log.warn(position.step, warning.cause, warning.sentence)
            self._display.say(f"warning: {warning.sentence}")

    def _mfu(self, reading: Reading) -> float | None:
        return None if self._peak is None else reading.flops_per_second / self._peak

    def _status(self, position: Position, lr: float) -> Status:
        reading = self._shown.read(position.samples, self.flops.total)
        gained = position.samples - self._start.samples
        # The first steps compile and fill caches: no rate, and no time left, is read off them.
        is_known = position.step - self._start.step >= _EVIDENCE_STEPS
        left: float | None
        total = self._horizon.total_samples
        if total is not None:
            left = (total - position.samples) * self.ledger.here / gained if gained and is_known else None
        else:
            left = max(0.0, (self._horizon.total_seconds or 0.0) - position.elapsed)
        return Status(
            position.step,
            self._horizon.total_steps,
            position.samples,
            reading.samples_per_second if is_known else None,
            self._latest["loss"],
            self._latest.get("logit_scale"),
            lr,
            reading.wait,
            self._horizon.done(position),
            left,
            self._mfu(reading),
            peak_memory(self._device) if self._device.type == "cuda" else None,
        )
