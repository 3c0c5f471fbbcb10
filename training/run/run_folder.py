"""Lock the folder of a run, and resume its run or start a new one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.errors import RecipeError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage.leases import Hold
from openwit.schemas.common.storage_faults import shown
from openwit.training.checkpoints.files import Checkpoint, latest_checkpoint, store_config, stored_config
from openwit.training.config import TrainConfig
from openwit.training.data.sources import Source
from openwit.training.run.resume_check import first_difference
from openwit.training.tokenizer.read import read_tokenizer, stored_tokenizer


@contextmanager
def lock_run(run: Path) -> Iterator[Hold]:
    """Lock the run folder for this process while the block runs, which can check that it still holds it.

    The lock ends with the process.

    Raises:
        StorageError: another process holds it, or it cannot be created.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"run folder {shown(run)} cannot be written ({reason}): set another run folder") from error
    with hold_lock(
        run / ".lock", f"another process is training in {run}: wait for it, or set another run folder"
    ) as held:
        yield held


def resume_or_start(config: TrainConfig, source: Source, *, report: Callable[[str], None]) -> Checkpoint | None:
    """Return the checkpoint to resume from; None for a new run, whose configuration is then stored.

    Raises:
        RecipeError: the folder holds a run of another configuration, on other data or with another tokenizer.
        DataError: the folder holds only damaged checkpoints.
    """
    old = stored_config(config.run)
    if old is not None:
        difference = first_difference(old, config)
        if difference is not None:
            key, before, now = difference
            raise RecipeError(
                f"{config.run} holds a run with {key} = {before!r}, but now {key} is {now!r}: "
                f"set another run folder (run: ...) or remove {config.run}"
            )
    checkpoint = latest_checkpoint(config.run, report)
    if checkpoint is not None and checkpoint.info.dataset_sha256 != source.manifest_sha256:
        raise RecipeError(
            f"{config.run} was trained on another build of the dataset than {source.name} is now "
            f"(the checksums of the manifests differ): set another run folder (run: ...) or remove {config.run}"
        )
    if checkpoint is not None:
        own = read_tokenizer(config.model.tokenizer, config.model.clean)
        if stored_tokenizer(checkpoint.state).stored != own.stored:
            raise RecipeError(
                f"{config.run} was trained with another tokenizer than {config.model.tokenizer or 'that of CLIP'} "
                "is now (their files differ): use the file it was trained with, or set another run folder"
            )
    store_config(config.run, config)
    return checkpoint
