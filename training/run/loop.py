"""Training loop: step, log, evaluate, checkpoint."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from openwit.schemas.common.storage.leases import Hold
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.checkpoints.files import Checkpoint, CheckpointInfo, restore_error
from openwit.training.checkpoints.initial import load_init
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Horizon, Position, Trigger
from openwit.training.data.loader import CorruptCount
from openwit.training.data.parts import StepBatch, StepLoader
from openwit.training.data.sampling import bounds
from openwit.training.data.sources import Source, open_source, open_steps
from openwit.training.data.transforms import normalise
from openwit.training.engine.build_model import build_model
from openwit.training.engine.distributed import Group, average_buffers, process_group
from openwit.training.engine.faults import describe_batch, device_faults
from openwit.training.engine.parallel import drop, reshard
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.engine.schedule import Schedule
from openwit.training.engine.step import Stepper
from openwit.training.evaluation.evaluators import (
    EvalContext,
    Evaluation,
    ScheduledEvaluator,
    make_evaluators,
    no_split_to_evaluate,
)
from openwit.training.evaluation.retrieval import RetrievalResult
from openwit.training.objectives.base import Objective
from openwit.training.objectives.registry import make_objective
from openwit.training.run.agreement import Agreed, Agreement, Clock
from openwit.training.run.beginning import Beginning, Start, begin, read_on_main, shared
from openwit.training.run.device_parts import DeviceParts
from openwit.training.run.guards import StepMetrics
from openwit.training.run.interrupt import Interrupt
from openwit.training.run.logs import MetricsLog, NoLog
from openwit.training.run.progress import Display, LoggingDisplay, SilentDisplay
from openwit.training.run.reporting import Log, Reporter
from openwit.training.run.run_folder import lock_run, resume_or_start
from openwit.training.run.saving import Saver
from openwit.training.run.throughput import Ledger
from openwit.training.run.vocabulary import open_tokenizer
from openwit.training.tokenizer.read import AnyTokenizer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """End of a run.

    Attributes:
        status: `finished`, `already finished` (nothing was done), or `stopped` by a signal.
        position: steps, samples and seconds of training.
        signal: number of the signal; None otherwise.
        evaluations: the last result of each evaluator, by name; empty on processes other than the first.
    """

    status: Literal["finished", "already finished", "stopped"]
    position: Position
    signal: int | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def recall(self) -> RetrievalResult | None:
        """Result of the evaluator `retrieval`; None if there was none."""
        found = self.evaluations.get("retrieval")
        return None if found is None or not isinstance(found.details, RetrievalResult) else found.details


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run besides its model, opened before anything is computed."""

    source: Source
    objective: Objective
    tokenizer: AnyTokenizer
    evaluators: list[ScheduledEvaluator]
    device: torch.device
    autocast: torch.autocast


def fit(config: TrainConfig, *, display: Display | None = None) -> Outcome:
    """Train until the configured duration is reached, resuming from the newest checkpoint of the run folder.

    Under torchrun or srun this process is one of several; the first one displays, logs and writes. In the main thread,
    SIGINT and SIGTERM end the run after the current step with a checkpoint; the same call then continues.

    Args:
        config: the run.
        display: shows progress; None logs sentences through `logging` (logger `openwit.training`).

    Raises:
        RecipeError: settings that cannot be used, or a run folder of another run.
        DataError: data that are missing or damaged, or a loss or gradient that is not finite.
        StorageError: the run folder cannot be written, or another process holds it.
        DeviceError: a GPU or the machine has not enough memory, or a GPU fails.
        NetworkError: the other processes cannot be reached.

    Example:
        >>> outcome = fit(load_config("train.yaml", overrides=["run=out/run"]))
        >>> outcome.evaluations["retrieval"].metrics["text_to_image_recall_at_1"]
    """
    display = LoggingDisplay() if display is None else display
    with storage_faults(config.run), process_group(config.device, config.distributed.timeout.value) as group:
        size = 1 if group is None else group.size
        batch = partial(describe_batch, config.data.batch_size, size, config.memory.chunk)
        with device_faults(batch=batch, rank=None if group is None else group.rank):
            return _fit(config, display if group is None or group.main else SilentDisplay(), group)


def _fit(config: TrainConfig, display: Display, group: Group | None) -> Outcome:
    device = pick_device(config.device)
    beginning = read_on_main(config, group, report=display.say)
    config = beginning.config
    inputs = _on_all_ranks(group, partial(_open, config, display, device, group))
    patient = group is not None
    with ExitStack() as stack, cpu_prepared(config.threads) as threads, Interrupt(patient) as interrupt:
        holds: list[Hold] = []
        begun = partial(_start, beginning, inputs.source, display, group, stack, holds)
        start = shared(_on_all_ranks(group, begun), group)
        if not start.fresh and start.checkpoint is not None and start.checkpoint.info.finished:
            display.say(f"already finished: {config.run} is complete at step {start.position.step}; nothing to do")
            return Outcome("already finished", start.position)
        trainer = Trainer(config, inputs, start=start, display=display, group=group, held=next(iter(holds), None))
        del start  # its tensors are in the model now
        display.say(trainer.describe(threads))
        return trainer.run(interrupt)


def _open(config: TrainConfig, display: Display, device: torch.device, group: Group | None) -> Inputs:
    source = open_source(config.data, seed=config.seed, report=display.say)
    objective = make_objective(config.objective)
    tokenizer = open_tokenizer(config)
    autocast = make_autocast(device, config.precision)
    progress = partial(display.activity, "evaluating")
    if note := no_split_to_evaluate(config):
        display.say(note)
    context = EvalContext(config, objective, tokenizer, device, autocast, progress, group)
    return Inputs(source, objective, tokenizer, make_evaluators(context), device, autocast)


def _on_all_ranks(group: Group | None, work: Callable[[], Result]) -> Result:
    return work() if group is None else group.on_all_ranks(work)


def _start(
    beginning: Beginning,
    source: Source,
    display: Display,
    group: Group | None,
    stack: ExitStack,
    holds: list[Hold],
) -> Start | None:
    if group is not None and not group.main:
        return None
    holds.append(stack.enter_context(lock_run(beginning.config.run)))
    checkpoint = resume_or_start(beginning.config, source, report=display.say)
    return begin(beginning, source) if checkpoint is None else Start.resumed(checkpoint)


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
        self.evaluations: dict[str, Evaluation] = {}

    def _load(self, model: nn.Module) -> None:
        """Load the weights to begin from into a new model that is not sharded yet."""
        if self.begun.init is not None:
            assert self.config.model.init is not None
            self.origin = load_init(model, self.begun.init, self.config.model.init)

    def describe(self, threads: int) -> str:
        """Return what is about to be trained, in one line."""
        parameters = sum(p.numel() for p in self.model.parameters())
        embeddings = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        embedding = sum(module.weight.numel() for module in embeddings)
        where = f"from step {self.start.step}" if self.start.step else "from the beginning"
        processes = "" if self.group is None else f"{self.group.size} processes ({self.config.distributed.strategy}), "
        return (
            f"training {where} on {len(self.source)} samples of {self.source.name}/{self.source.split} for "
            f"{self.config.schedule.duration}: {parameters / 1e6:.1f}M parameters ({embedding / 1e6:.1f}M of them "
            f"token embedding), batch {self.config.data.batch_size}, {processes}{self.device.type}, "
            f"{threads} CPU threads"
        )

    def run(self, interrupt: Interrupt) -> Outcome:
        """Train to the end, or to the first signal."""
        settings = self.config.checkpoint
        with (
            self._log() as log,
            Saver(
                self.config.run,
                settings.keep,
                settings.background,
                pinned=self.device.type == "cuda",
                held=self.held,
            ) as saver,
            self._loader() as loader,
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
                return Outcome("stopped", position, int(received), self.evaluations)
            self._evaluate(self.inputs.evaluators, position, reporter)
            final = {
                f"eval/{name}": value for each in self.evaluations.values() for name, value in each.metrics.items()
            }
            log.hyper_parameters(self.config.model_dump(mode="json"), final)
            reporter.log_time_summary(position, len(self.corrupt.keys))
            if self.corrupt.repaired:
                self.display.say(
                    f"{self.corrupt.repaired:,} of {position.samples:,} samples had a JSON member that is not valid "
                    "JSON: it was repaired, or the text member taken"
                )
            return Outcome("finished", position, None, self.evaluations)

    def _log(self) -> Log:
        settings = self.config.log
        if not self.main:
            return NoLog()
        about = self.config.model_dump(mode="json")
        log = MetricsLog(
            self.config.run,
            self.start.step,
            tensorboard=settings.tensorboard,
            wandb=settings.wandb,
            config=about,
            held=self.held,
        )
        if log.elsewhere:
            self.display.say(log.elsewhere)
        log.configuration(self.start.step, about)
        return log

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

    def _loader(self) -> StepLoader:
        rank, world = self._place()
        # A fork to other data begins them anew, at a later step of the run.
        step, samples = (0, 0) if self.origin is None else (self.origin.data_step, self.origin.data_samples)
        total = self.horizon.total_samples
        return open_steps(
            self.source,
            self.config.data,
            chunk=self.config.memory.chunk,
            inputs=self.config.model.inputs,
            tokenizer=self.tokenizer,
            seed=self.config.seed,
            start=self.start.step - step,
            total=None if total is None else total - samples,
            rank=rank,
            world=world,
            pinned=self.device.type == "cuda",
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
                    self._evaluate(due, position, reporter)
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

    def _evaluate(self, evaluators: list[ScheduledEvaluator], position: Position, reporter: Reporter) -> None:
        """Evaluate on all ranks, or on rank 0 while the others wait (a custom evaluator, unless sharded)."""
        if not evaluators:
            return
        average = self.stepper.ema if self.config.ema.evaluate else None
        with reporter.ledger.span("eval"):
            if self.group is not None:
                average_buffers(self.model, self.group)
            every = self.config.distributed.strategy == "fsdp"
            own = [each for each in evaluators if self.main or every or each.all_ranks]
            if own:
                with average.in_place() if average else nullcontext(), _not_compiled(self.config.speed.compile):
                    for each in own:
                        found = each.run(self.model, position)
                        reshard(self.model)
                        self.evaluations[each.name + each.suffix] = found
                        reporter.log.write("eval", position.step, found.metrics)
                        for name, pixels in found.pictures.items():
                            reporter.log.picture("eval", position.step, name + each.suffix, pixels)
                        self.display.say(found.sentence)
            if self.group is not None:
                self.group.barrier()

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


def _not_compiled(compiled: bool) -> AbstractContextManager[Any]:
    """Run without compiled code: an evaluation has other shapes, each of which would be compiled."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _restore(stepper: Stepper, checkpoint: Checkpoint, *, optimizer: bool) -> None:
    try:
        stepper.restore(checkpoint.state, optimizer=optimizer)
    except RuntimeError as error:
        raise restore_error(checkpoint) from error
