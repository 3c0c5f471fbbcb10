"""Fit a model: open what a run needs, begin or resume, and train."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from openwit.schemas.common.storage.leases import Hold
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.config import TrainConfig
from openwit.training.data.sources import Source
from openwit.training.engine.distributed import Group, process_group
from openwit.training.engine.faults import describe_batch, device_faults
from openwit.training.engine.runtime import cpu_prepared, pick_device
from openwit.training.run.beginning import Beginning, Start, begin, read_on_main, shared
from openwit.training.run.interrupt import Interrupt
from openwit.training.run.opening import open_inputs
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import Display, LoggingDisplay, SilentDisplay
from openwit.training.run.run_folder import lock_run, resume_or_start
from openwit.training.run.trainer import Trainer

Result = TypeVar("Result")


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
    inputs = _on_all_ranks(group, partial(open_inputs, config, display, device, group))
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
