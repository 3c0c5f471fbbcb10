"""The training loop: batches in, weights out, and everything that must not be lost on the way."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import Checkpoint, CheckpointInfo
from openwit.training.config.duration import Horizon, Position, Trigger
from openwit.training.config.train import TrainConfig
from openwit.training.data.loader import Batch, CorruptCount
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.sources import BatchLoader, Source, open_loader, open_source
from openwit.training.data.transforms import normalise
from openwit.training.engine.build_model import prepared_model
from openwit.training.engine.distributed import Group, average_buffers, joined
from openwit.training.engine.parallel import reshard
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device, sent
from openwit.training.engine.schedule import CosineSchedule
from openwit.training.engine.step import Stepper
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.evaluators import ZeroShot, open_zero_shot
from openwit.training.evaluation.held_out import Evaluator, Retrieval, open_held_out
from openwit.training.evaluation.retrieval import RetrievalResult
from openwit.training.objectives.registry import make_objective
from openwit.training.run.guards import Figures
from openwit.training.run.interrupt import Interrupt
from openwit.training.run.logs import MetricsLog, NoLog
from openwit.training.run.progress import Display, SilentDisplay
from openwit.training.run.reporting import Log, Reporter
from openwit.training.run.run_folder import claimed, take_up
from openwit.training.run.saving import Saver
from openwit.training.run.throughput import Ledger
from openwit.training.tokenizer.bpe import read_tokenizer

Result = TypeVar("Result")

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `already finished`, or `stopped` by a signal."""

    status: Literal["finished", "already finished", "stopped"]
    position: Position
    signal: int | None = None
    recall: RetrievalResult | None = None


@dataclass(frozen=True)
class Split:
    """What is trained on, and what is held out."""

    trained: Source
    held_out: ShardedDataset | None
    classified: ClassificationSet | None


def fit(config: TrainConfig, display: Display) -> Outcome:
    """Trains until the configured duration is over, going on from the run folder's newest checkpoint if it has one.

    Under torchrun or srun this process takes its part; the first one shows, logs and writes.

    Raises:
        OpenWITError: bad settings or data, a run folder of another run, or a loss or gradient that is not finite.
    """
    with joined(config.device, config.distributed.timeout.value) as group:
        return _fit(config, display if group is None or group.main else SilentDisplay(), group)


def _fit(config: TrainConfig, display: Display, group: Group | None) -> Outcome:
    device = pick_device(config.device)
    split = _together(group, partial(_open, config, display))
    patient = group is not None
    with ExitStack() as stack, cpu_prepared(config.threads) as threads, Interrupt(patient) as interrupt:
        checkpoint = _together(group, partial(_begin, config, split.trained, display, group, stack))
        checkpoint = _shared(checkpoint, group)
        if checkpoint is not None and checkpoint.info.finished:
            display.say(f"already finished: {config.run} is complete at step {checkpoint.info.step}; nothing to do")
            return Outcome("already finished", checkpoint.info.position)
        trainer = Trainer(config, split, device, checkpoint, display, group)
        display.say(trainer.describe(threads))
        return trainer.run(interrupt)


def _open(config: TrainConfig, display: Display) -> Split:
    trained = open_source(config.data, config.seed, display.say)
    return Split(trained, open_held_out(config), open_zero_shot(config))


def _together(group: Group | None, work: Callable[[], Result]) -> Result:
    return work() if group is None else group.together(work)


def _begin(
    config: TrainConfig, dataset: Source, display: Display, group: Group | None, stack: ExitStack
) -> Checkpoint | None:
    if group is not None and not group.main:
        return None
    stack.enter_context(claimed(config.run))
    return take_up(config, dataset, display.say)


def _shared(checkpoint: Checkpoint | None, group: Group | None) -> Checkpoint | None:
    """Rank 0's checkpoint on all ranks: the others need not see its disk."""
    if group is None:
        return checkpoint
    about = group.from_main(None if checkpoint is None else (checkpoint.path, checkpoint.info))
    if about is None:
        return None
    return Checkpoint(*about, group.share_tree(None if checkpoint is None else checkpoint.state))


class Trainer:
    """One start of one run.

    Args:
        config: the run.
        split: what to train and to evaluate on.
        device: where the model lives.
        checkpoint: what to go on from; None begins anew.
        display: where progress is shown.
        group: the processes that share the batch; None is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        split: Split,
        device: torch.device,
        checkpoint: Checkpoint | None,
        display: Display,
        group: Group | None = None,
    ) -> None:
        self.config, self.dataset, self.device = config, split.trained, device
        self.display, self.group = display, group
        self.main = group is None or group.main
        self.start = checkpoint.info.position if checkpoint is not None else Position()
        self.horizon = Horizon.of(config.schedule.duration, len(self.dataset), config.data.batch_size)
        self.schedule = CosineSchedule(config.schedule, self.horizon, config.optim.lr)
        self.tokenizer = read_tokenizer(config.model.tokenizer)
        autocast = make_autocast(device, config.precision)
        self.model = prepared_model(config, device, group)
        objective = make_objective(config.objective)
        self.stepper = Stepper(config, self.model, objective, device, autocast, group)
        if checkpoint is not None:
            _restore(self.stepper, checkpoint)
        known = checkpoint.info.corrupt if checkpoint is not None else []
        self.known_corrupt = len(known)
        self.corrupt = CorruptCount(len(self.dataset), config.data.max_corrupt, known)
        self.evaluators: list[Evaluator] = []
        self.retrieval: Retrieval | None = None
        activity = partial(display.activity, "evaluating")
        if split.held_out is not None:
            self.retrieval = Retrieval(split.held_out, config, self.tokenizer, device, autocast, activity)
            self.evaluators.append(self.retrieval)
        if split.classified is not None:
            self.evaluators.append(ZeroShot(split.classified, config, self.tokenizer, device, autocast, activity))
        self.milestones = Trigger(config.checkpoint.keep_every, self.horizon, self.start)
        self.reporter = Reporter(
            config, self.model, device, group, self.horizon, self.start, display, self.stepper.scaled
        )

    def describe(self, threads: int) -> str:
        """What is about to happen, in one line."""
        parameters = sum(p.numel() for p in self.model.parameters())
        embeddings = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        embedding = sum(module.weight.numel() for module in embeddings)
        where = f"from step {self.start.step}" if self.start.step else "from the beginning"
        many = "" if self.group is None else f"{self.group.size} processes ({self.config.distributed.strategy}), "
        return (
            f"training {where} on {len(self.dataset)} samples of {self.dataset.name}/{self.dataset.split} for "
            f"{self.config.schedule.duration}: {parameters / 1e6:.1f}M parameters ({embedding / 1e6:.1f}M of them "
            f"token embedding), batch {self.config.data.batch_size}, {many}{self.device.type}, {threads} CPU threads"
        )

    def run(self, interrupt: Interrupt) -> Outcome:
        """Trains to the end, or to the first signal."""
        settings = self.config.checkpoint
        with (
            self._log() as log,
            Saver(self.config.run, settings.keep, settings.background) as saver,
            self._loader() as loader,
        ):
            ledger = Ledger(self.start.elapsed)
            self.reporter.begin(log, ledger)
            position, received = self._train(loader, log, saver, ledger, interrupt)
            finished = self.horizon.done(position) >= 1
            with ledger.span("checkpoint"):
                path = self._save(saver, position, finished)
                saver.wait()
            if not finished:
                assert received is not None
                self.display.say(
                    f"stopped by {received.name} after step {position.step}; checkpoint {path} is written, and the "
                    "same command goes on from it"
                )
                return Outcome("stopped", position, int(received))
            self._evaluate(position, log, ledger)
            self.reporter.close_books(position, len(self.corrupt.keys))
            return Outcome("finished", position, None, self.retrieval.last if self.retrieval is not None else None)

    def _log(self) -> Log:
        settings = self.config.log
        if not self.main:
            return NoLog()
        about = self.config.model_dump(mode="json")
        return MetricsLog(self.config.run, self.start.step, settings.tensorboard, settings.wandb, about)

    def _loader(self) -> BatchLoader:
        data, seed, total = self.config.data, self.config.seed, self.horizon.total_samples
        rank, size = (0, 1) if self.group is None else (self.group.rank, self.group.size)
        spec, pinned = self.config.model.resolved(), self.device.type == "cuda"
        return open_loader(self.dataset, data, spec, self.tokenizer, seed, self.start.step, total, rank, size, pinned)

    def _train(
        self, loader: BatchLoader, log: Log, saver: Saver, ledger: Ledger, interrupt: Interrupt
    ) -> tuple[Position, Signals | None]:
        position, received = self.start, interrupt.received
        save = Trigger(self.config.checkpoint.every, self.horizon, position)
        evaluate = Trigger(self.config.eval.every, self.horizon, position)
        step_seconds = 0.0
        while self.horizon.done(position) < 1 and received is None:
            with ledger.span("loader"):
                batch = next(loader)
            with ledger.span("step"):
                rows, begun, step_seconds = self._agree(batch, ledger.elapsed, step_seconds)
                here = Position(position.step, position.samples, begun)
                expected = Position(position.step + 1, position.samples + batch.seen, begun + step_seconds)
                lr = self.schedule.rate(here, expected)
                before = ledger.elapsed
                figures = self._step(batch, rows, position.step, lr)
            step_seconds = ledger.elapsed - before
            elapsed, received = self._after(ledger.elapsed, interrupt)
            position = Position(position.step + 1, position.samples + batch.seen, elapsed)
            self.reporter.add(Figures.of(position, lr, batch.keys, figures), len(self.corrupt.keys))
            if self.horizon.done(position) < 1:
                milestone = self.milestones.due(position)
                if save.due(position) or milestone:
                    self.reporter.drain(len(self.corrupt.keys))
                    with ledger.span("checkpoint"):
                        self._save(saver, position, False, milestone)
                if evaluate.due(position):
                    self.reporter.drain(len(self.corrupt.keys))
                    self._evaluate(position, log, ledger)
            if self.group is None:
                received = interrupt.received
        self.reporter.drain(len(self.corrupt.keys))
        return position, received

    def _agree(self, batch: Batch, begun: float, step_seconds: float) -> tuple[list[int], float, float]:
        """What all ranks must know alike before a step: how many samples each has, and rank 0's clock."""
        if self.group is None:
            self.corrupt.add(batch)
            return [len(batch.keys)], begun, step_seconds
        self.corrupt.note(batch)
        own = [len(batch.keys), len(self.corrupt.keys)]
        table = self.group.table([*own, round(begun * MICROSECONDS), round(step_seconds * MICROSECONDS)])
        rows = [row[0] for row in table]
        # Samples that were known at the start are known to every rank.
        known = self.known_corrupt * (self.group.size - 1)
        self.corrupt.check(sum(row[1] for row in table) - known, sum(rows))
        return rows, table[0][2] / MICROSECONDS, table[0][3] / MICROSECONDS

    def _after(self, elapsed: float, interrupt: Interrupt) -> tuple[float, Signals | None]:
        """What all ranks must know alike after a step: rank 0's clock, and whether any was told to stop."""
        if self.group is None:
            return elapsed, interrupt.received
        table = self.group.table([round(elapsed * MICROSECONDS), int(interrupt.received or 0)])
        number = max(row[1] for row in table)
        return table[0][0] / MICROSECONDS, Signals(number) if number else None

    def _step(self, batch: Batch, rows: list[int], step: int, lr: float) -> dict[str, torch.Tensor]:
        """One update; answers its figures, which may still be on their way."""
        images = normalise(sent(batch.images, self.device))
        tokens = sent(batch.tokens, self.device)
        figures = self.stepper.gradients(images, tokens, step, rows)
        if self.device.type == "cpu":
            # Here nothing is under way, so the weights need not move for a figure that ends the run.
            self.reporter.refuse_trouble(
                step + 1, {name: float(figure) for name, figure in figures.items()}, batch.keys
            )
        self.stepper.apply(figures, step, lr)
        self.reporter.flops.add(len(batch.keys), tokens.shape[1])
        return figures

    def _evaluate(self, position: Position, log: Log, ledger: Ledger) -> None:
        """Rank 0 evaluates while the others wait; a model in shards is evaluated by all ranks alike."""
        if not self.evaluators:
            return
        average = self.stepper.ema if self.config.ema.evaluate else None
        with ledger.span("eval"):
            if self.group is not None:
                average_buffers(self.model, self.group)
            if self.main or self.config.distributed.strategy == "fsdp":
                with average.in_place() if average else nullcontext(), _not_compiled(self.config.speed.compile):
                    for evaluator in self.evaluators:
                        found = evaluator(self.model, position)
                        reshard(self.model)
                        log.write("eval", position.step, found.figures)
                        self.display.say(found.sentence)
            if self.group is not None:
                self.group.barrier()

    def _save(self, saver: Saver, position: Position, finished: bool, milestone: bool = False) -> Path | None:
        corrupt = list(self.corrupt.keys)
        if self.group is not None:
            average_buffers(self.model, self.group)
            corrupt = list(dict.fromkeys(key for part in self.group.objects(corrupt) for key in part))
        state = self.stepper.state()
        if not self.main:
            return None
        if self.config.model.tokenizer is not None:
            state["tokenizer"] = self.tokenizer.merges
        info = CheckpointInfo(
            step=position.step,
            samples=position.samples,
            elapsed=position.elapsed,
            finished=finished,
            config=self.config,
            dataset_name=self.dataset.name,
            dataset_sha256=self.dataset.manifest_sha256,
            corrupt=corrupt,
            torch_version=torch.__version__,
            processes=1 if self.group is None else self.group.size,
            milestone=milestone,
        )
        return saver.save(info, state)


def _not_compiled(compiled: bool) -> AbstractContextManager[Any]:
    """An evaluation has other shapes, each of which would be compiled anew."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _restore(stepper: Stepper, checkpoint: Checkpoint) -> None:
    try:
        stepper.restore(checkpoint.state)
    except RuntimeError as error:
        name = checkpoint.info.config.model.name or "the spec it was trained with"
        raise OpenWITError(
            f"the weights in {checkpoint.path} do not fit model {name} as this release builds it: "
            "use the release that trained them, or train anew in another run folder"
        ) from error
