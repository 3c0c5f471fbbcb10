"""Decide how a run begins: anew, from weights (`model.init`), from another run's checkpoint (`fork`), or resumed.

What is read from a file is filled into the configuration (the architecture, checksums), which is then stored, so that
a run that is resumed needs neither the weights nor the other run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.files import (
    Checkpoint,
    CheckpointInfo,
    find_checkpoint,
    has_checkpoint,
    stored_config,
)
from openwit.training.checkpoints.initial import InitWeights, architecture, read_init
from openwit.training.checkpoints.origin import Origin
from openwit.training.config import CustomModelSettings, ModelSettings, TrainConfig
from openwit.training.config.duration import Horizon, Position
from openwit.training.config.init import InitSettings
from openwit.training.data.sources import Source
from openwit.training.engine.distributed import Group
from openwit.training.engine.sent_tree import SentTree, plain
from openwit.training.models.build import described
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE
from openwit.training.tokenizer.file_tokenizer import file_in, is_tokenizer_file
from openwit.training.tokenizer.read import read_tokenizer, stored_tokenizer

# Settings that decide, with the data and the seed, which sample comes when.
_ORDER = ("split", "datasets", "samples", "streams", "shuffle_buffer", "batch_size")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Beginning:
    """What was read before the data are opened.

    Attributes:
        config: of the run, complete.
        init: weights to begin from.
        fork: checkpoint of another run to begin from.
    """

    config: TrainConfig
    init: InitWeights | None = None
    fork: Checkpoint | None = None


@dataclass(frozen=True)
class Start:
    """How this start of a run begins.

    Attributes:
        position: of the run.
        checkpoint: to restore the state from.
        init: weights to load into the new model.
        origin: where the run's first weights came from; of `init` it is known once they are loaded.
        optimizer: whether the optimiser's state is restored too.
        corrupt: keys of samples that are known to be unreadable.
        skipped: steps left out so far.
        fresh: whether the run begins now.
    """

    position: Position = field(default_factory=Position)
    checkpoint: Checkpoint | None = None
    init: InitWeights | None = None
    origin: Origin | None = None
    optimizer: bool = True
    corrupt: tuple[str, ...] = ()
    skipped: int = 0
    fresh: bool = True

    @classmethod
    def resumed(cls, checkpoint: Checkpoint) -> "Start":
        """Return the start from a run's own checkpoint."""
        info = checkpoint.info
        return cls(
            info.position,
            checkpoint,
            origin=info.origin,
            corrupt=tuple(info.corrupt),
            skipped=info.skipped,
            fresh=False,
        )


def read_beginning(config: TrainConfig, *, report: Say) -> Beginning:
    """Read the weights or the checkpoint that a run begins from, unless it has a checkpoint of its own.

    Raises:
        RecipeError: the configuration contradicts what was read.
        DataError: what was read is damaged or of an unknown kind.
    """
    if isinstance(config.model, CustomModelSettings):
        config = config.model_copy(update={"model": described(config.model)})
    if config.fork is not None and config.fork.checkpoint.resolve() == config.run.resolve():
        raise RecipeError(f"fork: {config.run} is the run itself: set another run folder (run: ...)")
    stored = stored_config(config.run) if config.fork is not None or config.model.init is not None else None
    if stored is not None and has_checkpoint(config.run):
        return Beginning(_filled_from(config, stored))
    if config.fork is not None:
        return _forked(config, report)
    init = config.model.init
    if init is None:
        return Beginning(config)
    custom = isinstance(config.model, CustomModelSettings)
    quick_gelu = None if isinstance(config.model, CustomModelSettings) else config.model.quick_gelu
    source = read_init(init.weights, use=init.use, quick_gelu=quick_gelu, custom=custom, report=report)
    _check_sum(init.sha256, source.sha256, init.weights, "model.init")
    model: Any = config.model.model_copy(update={"init": init.model_copy(update={"sha256": source.sha256})})
    if isinstance(model, ModelSettings):
        if model.is_open:
            model = _with_spec(model, source, init)
        model = ModelSettings.model_validate(model.model_dump())
    if init.parts != "image":
        _check_tokenizer(model, source, init.weights)
    return Beginning(config.model_copy(update={"model": model}), init=source)


def begin(beginning: Beginning, source: Source) -> Start:
    """Return how a run without a checkpoint of its own begins.

    Raises:
        RecipeError: a fork has nothing left to do.
    """
    fork = beginning.fork
    if fork is None:
        return Start(init=beginning.init)
    config, info = beginning.config, fork.info
    settings = config.fork
    assert settings is not None
    position = info.position if settings.position == "keep" else Position()
    same = _same_order(info, config, source)
    before = info.origin
    data_step, data_samples = (before.data_step, before.data_samples) if before is not None else (0, 0)
    if not same or settings.position == "restart":
        data_step, data_samples = position.step, position.samples
    origin = Origin(
        kind="fork",
        path=str(fork.path),
        sha256=info.sha256,
        step=info.step,
        samples=info.samples,
        data_step=data_step,
        data_samples=data_samples,
        notes=_notes(info, config, same=same),
        before=before,
    )
    horizon = Horizon.of(config.schedule.duration, len(source), config.data.batch_size)
    if horizon.done(position) >= 1:
        raise RecipeError(
            f"fork: {fork.path} is at step {position.step}, where schedule.duration {config.schedule.duration} has "
            "already ended: give a longer one, or fork.position restart"
        )
    return Start(
        position,
        fork,
        origin=origin,
        optimizer=settings.optimizer and info.config.optim.name == config.optim.name,
        corrupt=tuple(info.corrupt) if same else (),
    )


def read_on_main(config: TrainConfig, group: Group | None, *, report: Say) -> Beginning:
    """Read what the run begins from, on rank 0; other ranks get the configuration only."""
    if group is None:
        return read_beginning(config, report=report)
    main = group.main
    found = group.on_all_ranks(lambda: read_beginning(config, report=report) if main else Beginning(config))
    complete = group.broadcast_object(found.config)
    return found if main else Beginning(complete)


def shared(start: Start | None, group: Group | None) -> Start:
    """Return rank 0's start on all ranks, which need not have access to its disk."""
    if group is None:
        assert start is not None
        return start
    about = group.broadcast_object(None if start is None else _with_states(start, {"checkpoint": {}, "init": {}}))
    assert about is not None
    if about.checkpoint is None and about.init is None:
        return about
    sent = SentTree.of(group, None if start is None else _states(start))
    return _with_states(about, {"checkpoint": sent["checkpoint"], "init": plain(sent["init"])})


def _states(start: Start) -> dict[str, Any]:
    return {
        "checkpoint": {} if start.checkpoint is None else start.checkpoint.state,
        "init": {} if start.init is None else start.init.state,
    }


def _with_states(start: Start, tensors: dict[str, Any]) -> Start:
    checkpoint, init = start.checkpoint, start.init
    return replace(
        start,
        checkpoint=None if checkpoint is None else replace(checkpoint, state=tensors["checkpoint"]),
        init=None if init is None else replace(init, state=tensors["init"]),
    )


def _forked(config: TrainConfig, report: Say) -> Beginning:
    settings = config.fork
    assert settings is not None
    path = settings.checkpoint
    fork = find_checkpoint(path, report)
    _check_sum(settings.sha256, fork.info.sha256, path, "fork")
    config = _filled_from(config, fork.info.config, checksums=False)
    if isinstance(config.model, ModelSettings) and config.model.is_open:
        raise RecipeError("fork: the checkpoint's run had other model.init: leave model.init out, or give model.spec")
    settings = settings.model_copy(update={"sha256": fork.info.sha256})
    return Beginning(config.model_copy(update={"fork": settings}), fork=fork)


def _filled_from(config: TrainConfig, stored: TrainConfig, *, checksums: bool = True) -> TrainConfig:
    """Return a configuration with what an earlier start of the run, or the forked one, has read from files."""
    update: dict[str, Any] = {}
    model, before = config.model, stored.model
    if model.init is not None and before.init is not None:
        init = model.init.model_copy(update={"sha256": model.init.sha256 or before.init.sha256})
        filled: dict[str, Any] = {"init": init}
        if isinstance(model, ModelSettings) and isinstance(before, ModelSettings) and model.is_open:
            filled |= {"spec": before.spec, "vocabulary": model.vocabulary or before.vocabulary}
        update["model"] = model.model_copy(update=filled)
    elif isinstance(model, ModelSettings) and isinstance(before, ModelSettings) and model.is_open:
        update["model"] = model.model_copy(update={"spec": before.resolved()})
    if checksums and config.fork is not None and stored.fork is not None:
        sha256 = config.fork.sha256 or stored.fork.sha256
        update["fork"] = config.fork.model_copy(update={"sha256": sha256})
    return config.model_copy(update=update)


def _with_spec(model: ModelSettings, source: InitWeights, init: InitSettings) -> ModelSettings:
    spec = architecture(source, init)
    # With a tokenizer of another program's, the rows of the weights may be more than its ids.
    rows = {"vocabulary": spec.text.vocabulary} if is_tokenizer_file(model.tokenizer) and not model.vocabulary else {}
    return model.model_copy(update={"spec": spec, **rows})


def _check_sum(wanted: str | None, found: str, path: Path, key: str) -> None:
    if wanted is not None and wanted != found:
        raise RecipeError(
            f"{key}: {path} has the sha256 {found[:12]}…, not {wanted[:12]}…, with which the run was configured: use "
            "the same file, or set another run folder without the sum"
        )


def _check_tokenizer(model: ModelSettings | CustomModelSettings, source: InitWeights, path: Path) -> None:
    own = read_tokenizer(model.tokenizer, model.clean)
    if source.tokenizer is not None and own.stored != stored_tokenizer({"tokenizer": source.tokenizer}).stored:
        raise RecipeError(
            f"{path} was trained with a tokenizer of its own: set model.tokenizer to its file, or "
            "model.init.parts: image"
        )
    vocabulary = None if source.spec is None else source.spec.text.vocabulary
    if vocabulary is not None and model.tokenizer is None and vocabulary != VOCABULARY_SIZE:
        if not isinstance(model, ModelSettings):
            return  # the check of shapes says it
        own_rows, causal = model.resolved().text.vocabulary, source.spec is None or source.spec.text.causal
        if own_rows != vocabulary or (causal and own_rows >= VOCABULARY_SIZE):
            return
        raise RecipeError(
            f"{path} has a vocabulary of {vocabulary:,} instead of CLIP's {VOCABULARY_SIZE:,}: set model.tokenizer to "
            f"{file_in(path if path.is_dir() else path.parent) or 'the file of the tokenizer it was trained with'}"
        )


def _same_order(info: CheckpointInfo, config: TrainConfig, source: Source) -> bool:
    old = info.config
    if info.dataset_sha256 != source.manifest_sha256 or old.seed != config.seed:
        return False
    before, now = old.data.model_dump(mode="json"), config.data.model_dump(mode="json")
    for data in (before, now):
        data["datasets"] = [{**share, "dataset": ""} for share in data["datasets"] or []]
    return all(before.get(key) == now.get(key) for key in _ORDER)


def _notes(info: CheckpointInfo, config: TrainConfig, *, same: bool) -> list[str]:
    settings = config.fork
    assert settings is not None
    notes = []
    if settings.position == "keep" and not same:
        notes.append("other data, seed or batch size: their order begins anew")
    if settings.optimizer and info.config.optim.name != config.optim.name:
        notes.append(f"optim.name was {info.config.optim.name}: the optimiser's state begins anew")
    return notes
