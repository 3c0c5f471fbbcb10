"""The training loop: batches in, weights out, and everything that must not be lost on the way."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from schemas.atomic import atomic_write
from schemas.errors import UserError
from training.checkpoint import Checkpoint, CheckpointInfo, restore_model, save_checkpoint
from training.config import TrainConfig
from training.data import ShardedDataset
from training.duration import Horizon, Position, Trigger
from training.evaluation.embed import Embedder
from training.evaluation.retrieval import RetrievalResult, retrieval
from training.interrupt import Interrupt
from training.loader import Batch, BatchMaker, CorruptCount, Loader
from training.logs import MetricsLog
from training.models.clip import Clip
from training.objectives.contrastive import ContrastiveObjective, Loss
from training.optim import make_optimizer, set_learning_rate
from training.progress import Display, Status, clock
from training.run_folder import claimed, take_up
from training.runtime import cpu_prepared, make_autocast, pick_device
from training.sampling import BatchPlan, step_seed
from training.schedule import CosineSchedule
from training.throughput import Ledger, Rate
from training.tokenizer import clip_tokenizer
from training.transforms import normalise


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `already finished`, or `stopped` by a signal."""

    status: Literal["finished", "already finished", "stopped"]
    position: Position
    signal: int | None = None
    recall: RetrievalResult | None = None


def fit(config: TrainConfig, display: Display) -> Outcome:
    """Trains until the configured duration is over, going on from the run folder's newest checkpoint if it has one.

    Raises:
        UserError: bad settings or data, a run folder of another run, or a loss that is not finite.
    """
    device = pick_device(config.device)
    dataset = ShardedDataset(config.data.dataset, config.data.split)
    held_out = _open_held_out(config)
    if held_out is not None and held_out.split == dataset.split:
        raise UserError(
            f"eval.split is {held_out.split!r}, the split that is trained on: name a held-out split, or null"
        )
    with cpu_prepared(config.threads) as threads, claimed(config.run), Interrupt() as interrupt:
        checkpoint = take_up(config, dataset, display.say)
        if checkpoint is not None and checkpoint.info.finished:
            display.say(f"already finished: {config.run} is complete at step {checkpoint.info.step}; nothing to do")
            return Outcome("already finished", checkpoint.info.position)
        trainer = Trainer(config, dataset, held_out, device, checkpoint, display)
        display.say(trainer.describe(threads))
        return trainer.run(interrupt)


def _open_held_out(config: TrainConfig) -> ShardedDataset | None:
    if config.eval.split is None:
        return None
    try:
        return ShardedDataset(config.data.dataset, config.eval.split)
    except UserError as error:
        raise UserError(f"eval.split: {error}; null trains without evaluation") from error


class Trainer:
    """One start of one run.

    Args:
        config: the run.
        dataset: split to train on.
        held_out: split to evaluate on, if any.
        device: where the model lives.
        checkpoint: what to go on from; None begins anew.
        display: where progress is shown.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: ShardedDataset,
        held_out: ShardedDataset | None,
        device: torch.device,
        checkpoint: Checkpoint | None,
        display: Display,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.device = device
        self.display = display
        self.start = checkpoint.info.position if checkpoint is not None else Position()
        self.horizon = Horizon.of(config.schedule.duration, len(dataset), config.data.batch_size)
        self.schedule = CosineSchedule(config.schedule, self.horizon, config.optim.lr)
        self.autocast = make_autocast(device, config.precision)
        self.objective = ContrastiveObjective(config.objective.positives)
        torch.manual_seed(config.seed)
        self.model = Clip(config.model.resolved(), config.model.patch_dropout).to(device)
        self.optimizer = make_optimizer(self.model, config.optim)
        known_corrupt: list[str] = []
        if checkpoint is not None:
            restore_model(self.model, checkpoint)
            self.optimizer.load_state_dict(checkpoint.state["optimizer"])
            known_corrupt = checkpoint.info.corrupt
        self.corrupt = CorruptCount(len(dataset), config.data.max_corrupt, known_corrupt)
        self.last_recall: RetrievalResult | None = None

    def describe(self, threads: int) -> str:
        """What is about to happen, in one line."""
        parameters = sum(p.numel() for p in self.model.parameters())
        embedding = self.model.text.token_embedding.weight.numel()
        where = f"from step {self.start.step}" if self.start.step else "from the beginning"
        return (
            f"training {where} on {len(self.dataset)} samples of {self.dataset.name}/{self.dataset.split} for "
            f"{self.config.schedule.duration}: {parameters / 1e6:.1f}M parameters ({embedding / 1e6:.1f}M of them "
            f"token embedding), batch {self.config.data.batch_size}, {self.device.type}, {threads} CPU threads"
        )

    def run(self, interrupt: Interrupt) -> Outcome:
        """Trains to the end, or to the first signal."""
        data = self.config.data
        plan = BatchPlan(len(self.dataset), data.batch_size, self.config.seed, self.horizon.total_samples)
        maker = BatchMaker(self.dataset, plan, data, self.model.spec, clip_tokenizer(), self.config.seed)
        with (
            MetricsLog(self.config.run, self.start.step, self.config.log.tensorboard) as log,
            Loader(maker, self.start.step, data.workers, data.prefetch) as loader,
        ):
            ledger = Ledger(self.start.elapsed)
            position = self._train(loader, log, ledger, interrupt)
            finished = self.horizon.done(position) >= 1
            with ledger.span("checkpoint"):
                path = self._save(position, finished)
            if not finished:
                received = interrupt.received
                assert received is not None
                self.display.say(
                    f"stopped by {received.name} after step {position.step}; checkpoint {path} is written, and the "
                    "same command goes on from it"
                )
                return Outcome("stopped", position, int(received))
            self._evaluate(position, log, ledger)
            self._close_books(position, log, ledger)
            return Outcome("finished", position, None, self.last_recall)

    def _train(self, loader: Loader, log: MetricsLog, ledger: Ledger, interrupt: Interrupt) -> Position:
        position = self.start
        save = Trigger(self.config.checkpoint.every, self.horizon, position)
        evaluate = Trigger(self.config.eval.every, self.horizon, position)
        shown, logged = Rate(ledger, position.samples), Rate(ledger, position.samples)
        step_seconds = 0.0
        self.model.train()
        while self.horizon.done(position) < 1 and interrupt.received is None:
            begun = ledger.elapsed
            with ledger.span("loader"):
                batch = next(loader)
            with ledger.span("step"):
                self.corrupt.add(batch)
                expected = Position(position.step + 1, position.samples + batch.seen, begun + step_seconds)
                lr = self.schedule.rate(Position(position.step, position.samples, begun), expected)
                loss, value = self._step(batch, position.step, lr)
            step_seconds = ledger.elapsed - begun
            position = Position(position.step + 1, position.samples + batch.seen, ledger.elapsed)
            with ledger.span("log"):
                self._record(log, logged, position, loss, value, lr)
                if self.display.wants():
                    self.display.show(self._status(shown, ledger, position, value, lr))
            if self.horizon.done(position) < 1:
                if save.due(position):
                    with ledger.span("checkpoint"):
                        self._save(position, finished=False)
                if evaluate.due(position):
                    self._evaluate(position, log, ledger)
        return position

    def _step(self, batch: Batch, step: int, lr: float) -> tuple[Loss, float]:
        """One update. The model's chance is drawn from (seed, step), so that no generator's state need be saved."""
        torch.manual_seed(step_seed(self.config.seed, step))
        images = normalise(batch.images.to(self.device))
        loss = self.objective.backward(self.model, images, batch.tokens.to(self.device), self.autocast)
        value = float(loss.value.detach())
        if not math.isfinite(value):
            self._refuse(batch, step, value)
        if self.config.optim.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.grad_clip)
        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.clamp_logit_scale()
        return loss, value

    def _refuse(self, batch: Batch, step: int, value: float) -> None:
        path = self.config.run / "non_finite.json"
        atomic_write(path, json.dumps({"step": step + 1, "loss": str(value), "keys": batch.keys}, indent=1) + "\n")
        shown = ", ".join(batch.keys[:3])
        raise UserError(
            f"the loss is {value} in step {step + 1} (samples {shown} and {max(0, len(batch.keys) - 3)} more, all in "
            f"{path}); the weights of the last checkpoint are untouched: lower optim.lr or set optim.grad_clip"
        )

    def _record(self, log: MetricsLog, rate: Rate, position: Position, loss: Loss, value: float, lr: float) -> None:
        if position.step % self.config.log.every:
            return
        speed, wait = rate.read(position.samples)
        figures = {
            "loss": value,
            "lr": lr,
            "logit_scale": float(self.model.logit_scale.detach().exp()),
            **{name: float(metric) for name, metric in loss.metrics.items()},
            "samples": position.samples,
            "epoch": self.horizon.measure(position, "epochs"),
            "elapsed": position.elapsed,
            "samples_per_second": speed,
            "loader_wait": wait,
            "corrupt": len(self.corrupt.keys),
        }
        log.write("train", position.step, figures)

    def _status(self, rate: Rate, ledger: Ledger, position: Position, loss: float, lr: float) -> Status:
        speed, wait = rate.read(position.samples)
        gained = position.samples - self.start.samples
        left: float | None
        if self.horizon.total_samples is not None:
            left = (self.horizon.total_samples - position.samples) * ledger.here / gained if gained else None
        else:
            left = max(0.0, (self.horizon.total_seconds or 0.0) - position.elapsed)
        scale = float(self.model.logit_scale.detach().exp())
        done = self.horizon.done(position)
        return Status(
            position.step, self.horizon.total_steps, position.samples, speed, loss, scale, lr, wait, done, left
        )

    def _evaluate(self, position: Position, log: MetricsLog, ledger: Ledger) -> None:
        if self.held_out is None:
            return
        with ledger.span("eval"):
            embedder = Embedder(
                self.model,
                clip_tokenizer(),
                self.device,
                self.autocast,
                self.config.eval.batch_size,
                self.config.data.decode == "fast",
            )
            result = retrieval(
                embedder.split(self.held_out, self.config.eval.limit, partial(self.display.activity, "evaluating"))
            )
        self.last_recall = result
        to_image, to_text = (result.at(direction, "strict", 1) for direction in ("text_to_image", "image_to_text"))
        log.write(
            "eval",
            position.step,
            {
                f"{direction}_recall_at_{k}": result.at(direction, "strict", k).value
                for direction in ("text_to_image", "image_to_text")
                for k in (1, 5, 10)
            },
        )
        self.display.say(
            f"step {position.step}: recall@1 on {self.held_out.split} ({result.images} images)  "
            f"text to image {100 * to_image.value:.1f}%  image to text {100 * to_text.value:.1f}%  "
            f"(chance {100 * to_image.chance:.2f}%, {100 * to_text.chance:.2f}%)"
        )

    def _save(self, position: Position, finished: bool) -> Path:
        info = CheckpointInfo(
            step=position.step,
            samples=position.samples,
            elapsed=position.elapsed,
            finished=finished,
            config=self.config,
            dataset_name=self.dataset.name,
            dataset_sha256=self.dataset.manifest_sha256,
            corrupt=list(self.corrupt.keys),
            torch_version=torch.__version__,
        )
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return save_checkpoint(self.config.run, info, state, self.config.checkpoint.keep)

    def _close_books(self, position: Position, log: MetricsLog, ledger: Ledger) -> None:
        spent = ledger.spent()
        log.write("time", position.step, spent)
        whole = sum(spent.values())
        shares = ", ".join(f"{name} {100 * seconds / whole:.1f}%" for name, seconds in spent.items())
        unreadable = f"; {len(self.corrupt.keys)} samples were unreadable" if self.corrupt.keys else ""
        self.display.say(
            f"finished at step {position.step}, {position.samples} samples, "
            f"{self.horizon.measure(position, 'epochs'):.1f} epochs; this start took {clock(whole)}: "
            f"{shares}{unreadable}"
        )
