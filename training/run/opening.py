"""Open what a run needs: data, objective, tokenizer, evaluators, log and loader."""

from dataclasses import dataclass
from functools import partial

import torch

from openwit.schemas.common.storage.leases import Hold
from openwit.training.checkpoints.origin import Origin
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Horizon
from openwit.training.data.parts import StepLoader
from openwit.training.data.sources import Source, open_source, open_steps
from openwit.training.engine.distributed import Group
from openwit.training.engine.runtime import make_autocast
from openwit.training.evaluation.evaluators import (
    EvalContext,
    ScheduledEvaluator,
    make_evaluators,
    no_split_to_evaluate,
)
from openwit.training.objectives.base import Objective
from openwit.training.objectives.registry import make_objective
from openwit.training.run.logs import MetricsLog, NoLog
from openwit.training.run.progress import Display
from openwit.training.run.reporting import Log
from openwit.training.run.vocabulary import open_tokenizer
from openwit.training.tokenizer.read import AnyTokenizer


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run besides its model, opened before anything is computed."""

    source: Source
    objective: Objective
    tokenizer: AnyTokenizer
    evaluators: list[ScheduledEvaluator]
    device: torch.device
    autocast: torch.autocast


def open_inputs(config: TrainConfig, display: Display, device: torch.device, group: Group | None) -> Inputs:
    """Open the data, the objective, the tokenizer and the evaluators of a run, before anything is computed.

    Raises:
        OpenWITError: a setting cannot be used; data are missing or damaged.
    """
    source = open_source(config.data, seed=config.seed, report=display.say)
    objective = make_objective(config.objective)
    tokenizer = open_tokenizer(config)
    autocast = make_autocast(device, config.precision)
    progress = partial(display.activity, "evaluating")
    if note := no_split_to_evaluate(config):
        display.say(note)
    context = EvalContext(config, objective, tokenizer, device, autocast, progress, group)
    return Inputs(source, objective, tokenizer, make_evaluators(context), device, autocast)


def open_log(config: TrainConfig, step: int, display: Display, held: Hold | None, *, main: bool) -> Log:
    """Open the log of a run, and write its configuration.

    Args:
        step: at which the run begins.
        held: the lock of the run's folder.
        main: whether this process writes; others have a log that does nothing.
    """
    if not main:
        return NoLog()
    about = config.model_dump(mode="json")
    log = MetricsLog(
        config.run, step, tensorboard=config.log.tensorboard, wandb=config.log.wandb, config=about, held=held
    )
    if log.elsewhere:
        display.say(log.elsewhere)
    log.configuration(step, about)
    return log


def open_loader(
    config: TrainConfig, inputs: Inputs, horizon: Horizon, step: int, origin: Origin | None, place: tuple[int, int]
) -> StepLoader:
    """Open the loader of the batches of a process.

    Args:
        step: of the run at which it begins.
        origin: of weights that were taken over. A fork to other data begins them again, at a later step of the run.
        place: rank of the process, and number of processes.
    """
    before, samples = (0, 0) if origin is None else (origin.data_step, origin.data_samples)
    total = horizon.total_samples
    return open_steps(
        inputs.source,
        config.data,
        chunk=config.memory.chunk,
        inputs=config.model.inputs,
        tokenizer=inputs.tokenizer,
        seed=config.seed,
        start=step - before,
        total=None if total is None else total - samples,
        rank=place[0],
        world=place[1],
        pinned=inputs.device.type == "cuda",
    )
