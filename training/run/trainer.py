"""Train: step, log, evaluate, checkpoint."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import Signals

import torch
from torch import nn

from openwit.schemas.common.storage.leases import Hold
from openwit.training.checkpoints.files import Checkpoint, CheckpointInfo, restore_error
from openwit.training.checkpoints.initial import load_init
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Horizon, Position, Trigger
from openwit.training.data.loader import CorruptCount
from openwit.training.data.parts import StepBatch, StepLoader
from openwit.training.data.sampling import bounds
from openwit.training.data.transforms import normalise
from openwit.training.engine.build_model import build_model
from openwit.training.engine.distributed import Group, average_buffers
from openwit.training.engine.parallel import drop
from openwit.training.engine.schedule import Schedule
from openwit.training.engine.step import Stepper
from openwit.training.run.agreement import Agreed, Agreement, Clock
from openwit.training.run.beginning import Start
from openwit.training.run.describing import describe
from openwit.training.run.device_parts import DeviceParts
from openwit.training.run.evaluating import Evaluating
from openwit.training.run.guards import StepMetrics
from openwit.training.run.interrupt import Interrupt
from openwit.training.run.opening import Inputs, open_loader, open_log
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import Display
from openwit.training.run.reporting import Log, Reporter
from openwit.training.run.saving import Saver
from openwit.training.run.throughput import Ledger


class Trainer:
    """One start of one run.

    Args:
        config: the run.
        inputs: data, objective, tokenizer and evaluators.
        start: where it begins; None: from the beginning.
        display: shows progress.
        group: the processes that share the batch; None for a single process.
        held: the lock of the run's folder.
    """

    def __init__(
        self,
        config: TrainConfig,
        inputs: Inputs,
        *,
        start: Start | None = None,
        display: Display,
        group: Group | None = None,
        held: Hold | None = None,
    ) -> None:
        self.config, self.inputs, self.device = config, inputs, inputs.device
        self.source, self.tokenizer = inputs.source, inputs.tokenizer
        self.display, self.group, self.held = display, group, held
        self.main = group is None or group.main
        begun = start or Start()
        self.begun, self.start, self.origin = begun, begun.position, begun.origin
        self.horizon = Horizon.of(config.schedule.duration, len(self.source), config.data.batch_size)
        self.schedule = Schedule(config.schedule, self.horizon, config.optim.lr)
        self.model = build_model(config, inputs.objective, device=self.device, group=group, prepare=self._load)
        self.stepper = Stepper(
            config,
            self.model,
            objective=inputs.objective,
            device=self.device,
            autocast=inputs.autocast,
            group=group,
            normaliser=partial(normalise, images=config.model.inputs.images),
        )
        if begun.checkpoint is not None:
            _restore(self.stepper, begun.checkpoint, optimizer=begun.optimizer)
        known = list(begun.corrupt)
        # Their tensors are in the model now.
        self.begun = replace(begun, checkpoint=None, init=None)
        self.corrupt = CorruptCount(len(self.source), config.data.max_corrupt, known)
        self.agreement = Agreement(group, self.corrupt)
        self.milestones = Trigger(config.checkpoint.keep_every, self.horizon, self.start)
        average = self.stepper.ema if config.ema.evaluate else None
        self.evaluating = Evaluating(config, self.model, average, group, display)

    def _load(self, model: nn.Module) -> None:
        """Load the weights to begin from into a new model that is not sharded yet."""
        if self.begun.init is not None:
            assert self.config.model.init is not None
            self.origin = load_init(model, self.begun.init, self.config.model.init)

    def describe(self, threads: int) -> str:
        """Return what is about to be trained, in one line."""
        size = None if self.group is None else self.group.size
        return describe(self.config, self.model, self.source, self.device, self.start.step, size, threads)

    def run(self, interrupt: Interrupt) -> Outcome:
        """Train to the end, or to the first signal."""
        settings = self.config.checkpoint
        with (
            open_log(self.config, self.start.step, self.display, self.held, main=self.main) as log,
            Saver(
                self.config.run,
                settings.keep,
                settings.background,
                pinned=self.device.type == "cuda",
                held=self.held,
            ) as saver,
            open_loader(self.config, self.inputs, self.horizon, self.start.step, self.origin, self._place()) as loader,
        ):
            if self.begun.fresh and self.origin is not None:
                log.note("origin", self.start.step, self.origin.model_dump(mode="json", exclude={"kind"}))
                for sentence in self.origin.sentences():
                    self.display.say(sentence)
            if self.stepper.waits and self.device.type == "cuda":
                self.display.say(f"{self.config.optim.name} cannot skip a step on the device: each step waits for it")
            reporter = self._reporter(log)
            ledger = reporter.ledger
            position, received = self._train(loader, saver, reporter, interrupt)
            finished = self.horizon.done(position) >= 1
            with ledger.span("checkpoint"):
                path = self._save(saver, position, reporter, finished=finished)
                saver.wait()
            if not finished:
                assert received is not None
                self.display.say(
                    f"stopped by {received.name} after step {position.step}; checkpoint {path} is written, and the "
                    "same command continues from it"
                )
                return Outcome("stopped", position, int(received), self.evaluating.results)
            self.evaluating.run(self.inputs.evaluators, position, reporter)
            final = {
                f"eval/{name}": value
                for each in self.evaluating.results.values()
                for name, value in each.metrics.items()
            }
            log.hyper_parameters(self.config.model_dump(mode="json"), final)
            reporter.log_time_summary(position, len(self.corrupt.keys))
            if self.corrupt.repaired:
                self.display.say(
                    f"{self.corrupt.repaired:,} of {position.samples:,} samples had a JSON member that is not valid "
                    "JSON: it was repaired, or the text member taken"
                )
            return Outcome("finished", position, None, self.evaluating.results)

    def _reporter(self, log: Log) -> Reporter:
        return Reporter(
            self.config,
            self.model,
            objective=self.inputs.objective,
            device=self.device,
            group=self.group,
            horizon=self.horizon,
            start=self.start,
            display=self.display,
            scaled=self.stepper.scaled,
            log=log,
            ledger=Ledger(self.start.elapsed),
            skipped=self.begun.skipped,
        )

    def _train(
        self, loader: StepLoader, saver: Saver, reporter: Reporter, interrupt: Interrupt
    ) -> tuple[Position, Signals | None]:
        position, ledger = self.start, reporter.ledger
        # With several processes a signal counts from the exchange in which all learn of it.
        received = interrupt.received if self.group is None else None
        save = Trigger(self.config.checkpoint.every, self.horizon, position)
        evaluate = [(each, Trigger(each.every, self.horizon, position)) for each in self.inputs.evaluators]
        step_seconds = 0.0
        while self.horizon.done(position) < 1 and received is None:
            saver.check()
            with ledger.span("loader"):
                batch = next(loader)
            with ledger.span("step"):
                begun, samples = ledger.elapsed, position.samples
                reporter.launching.begin()
                done, agreed = self._step(batch, samples, position.step, step_seconds, reporter, interrupt)
                reporter.launching.end()
                step_seconds = ledger.elapsed - begun
            ledger.move(batch.waited, source="step", target="loader")
            alone = self.group is None
            received = interrupt.received if alone else agreed.signal
            position = Position(position.step + 1, samples + batch.seen, ledger.elapsed if alone else agreed.clock.now)
            reporter.add(replace(done, position=position), len(self.corrupt.keys))
            if self.horizon.done(position) < 1:
                milestone = self.milestones.due(position)
                if save.due(position) or milestone:
                    reporter.drain(len(self.corrupt.keys))
                    with ledger.span("checkpoint"):
                        reporter.log.flush()
                        self._save(saver, position, reporter, finished=False, milestone=milestone)
                due = [each for each, trigger in evaluate if trigger.due(position)]
                if due:
                    reporter.drain(len(self.corrupt.keys))
                    self.evaluating.run(due, position, reporter)
            if self.group is None:
                received = interrupt.received
        reporter.drain(len(self.corrupt.keys))
        return position, received

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.group is None else (self.group.rank, self.group.size)

    def _step(
        self,
        batch: StepBatch,
        samples: int,
        step: int,
        last_seconds: float,
        reporter: Reporter,
        interrupt: Interrupt,
    ) -> tuple[StepMetrics, Agreed]:
        """Update the weights; return the step's metrics, and what all ranks know of the step.

        Args:
            batch: of this process.
            samples: before the step.
            step: counted from 0.
            last_seconds: that the step before took.
            reporter: has the clock, and takes what is not finite.
            interrupt: has signals.
        """
        ledger, chunk = reporter.ledger, self.config.memory.chunk
        begun = ledger.elapsed
        rank, world = self._place()
        places = [bounds(batch.seen, each, world) for each in range(world)]
        parts = DeviceParts(
            batch,
            planned=places[rank][1] - places[rank][0],
            chunk=chunk,
            device=self.device,
            corrupt=self.corrupt,
            flops=reporter.flops,
        )
        reached: list[Agreed] = []

        def agree(size: int) -> list[int]:
            clock = Clock(begun, last_seconds, ledger.elapsed)
            reached.append(self.agreement.reach(size, clock, interrupt.received))
            return reached[0].rank_sizes

        metrics = self.stepper.gradients(
            parts,
            step=step,
            first=places[rank][0],
            chunks=[1 if chunk is None else -(-(stop - start) // chunk) for start, stop in places],
            agree=agree,
        )
        (agreed,) = reached
        if self.device.type == "cpu":
            # Nothing is computed asynchronously here, so the run can end before the weights change.
            values = {name: float(value) for name, value in metrics.items()}
            reporter.non_finite.check(step + 1, values, keys=parts.keys)
        clock = agreed.clock
        here, after = Position(step, samples, clock.begun), Position(step + 1, samples + batch.seen)
        expected = replace(after, elapsed=clock.begun + clock.last_step)
        lr, head_lr = self.schedule.rate(here, expected), self.schedule.head_rate(here, expected)
        self.stepper.step(metrics, step=step, lr=lr, head_lr=head_lr)
        return StepMetrics.of(after, lr=lr, keys=parts.keys, metrics=metrics), agreed

    def _save(
        self, saver: Saver, position: Position, reporter: Reporter, *, finished: bool, milestone: bool = False
    ) -> Path | None:
        corrupt = list(self.corrupt.keys)
        if self.group is not None:
            average_buffers(self.model, self.group)
            corrupt = list(dict.fromkeys(key for part in self.group.all_gather_objects(corrupt) for key in part))
        state = self.stepper.state(saver.take if self.main else drop)
        if not self.main:
            return None
        if self.config.model.tokenizer is not None:
            state["tokenizer"] = self.tokenizer.stored
        info = CheckpointInfo(
            step=position.step,
            samples=position.samples,
            elapsed=position.elapsed,
            finished=finished,
            config=self.config,
            dataset_name=self.source.name,
            dataset_sha256=self.source.manifest_sha256,
            corrupt=corrupt,
            torch_version=torch.__version__,
            processes=1 if self.group is None else self.group.size,
            milestone=milestone,
            skipped=reporter.non_finite.count,
            origin=self.origin,
        )
        reporter.non_finite.saved = True
        return saver.save(info, state)


def _restore(stepper: Stepper, checkpoint: Checkpoint, *, optimizer: bool) -> None:
    try:
        stepper.restore(checkpoint.state, optimizer=optimizer)
    except RuntimeError as error:
        raise restore_error(checkpoint) from error
