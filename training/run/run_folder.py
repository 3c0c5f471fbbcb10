"""The folder of a run: whose it is, where it stands, and that only one process works in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.locks import lock_file
from openwit.training.checkpoints.files import Checkpoint, latest_checkpoint, store_config, stored_config
from openwit.training.config.train import TrainConfig
from openwit.training.data.sources import Source
from openwit.training.run.resume_check import first_difference
from openwit.training.tokenizer.bpe import read_tokenizer, stored_tokenizer


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Holds the run folder for this process until the block ends, even if the process is killed.

    Raises:
        OpenWITError: another process holds it, or it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("w")
    except OSError as error:
        raise OpenWITError(f"run folder {run} cannot be written ({error.strerror}): set another run folder") from error
    with lock:
        if not lock_file(lock, wait=False):
            raise StorageError(f"another process is training in {run}: wait for it, or set another run folder")
        yield


def take_up(config: TrainConfig, dataset: Source, say: Callable[[str], None]) -> Checkpoint | None:
    """What to go on from; None for a new run, whose configuration is then stored.

    Raises:
        OpenWITError: the folder holds a run of another configuration on other data or with another tokenizer, or
            only broken checkpoints.
    """
    old = stored_config(config.run)
    if old is not None:
        difference = first_difference(old, config)
        if difference is not None:
            key, before, now = difference
            raise OpenWITError(
                f"{config.run} holds a run with {key} = {before!r}, but now {key} is {now!r}: "
                f"set another run folder (--set run=...) or remove {config.run}"
            )
    checkpoint = latest_checkpoint(config.run, say)
    if checkpoint is not None and checkpoint.info.dataset_sha256 != dataset.manifest_sha256:
        raise OpenWITError(
            f"{config.run} was trained on another build of the dataset than {dataset.name} is now "
            f"(the sums of the manifests differ): set another run folder (--set run=...) or remove {config.run}"
        )
    if checkpoint is not None:
        stored, now_read = stored_tokenizer(checkpoint.state), read_tokenizer(config.model.tokenizer)
        if stored.merges != now_read.merges:
            raise OpenWITError(
                f"{config.run} was trained with another tokenizer than {config.model.tokenizer or 'that of CLIP'} "
                "holds now (the merges differ): give the file it was trained with, or set another run folder"
            )
    store_config(config.run, config)
    return checkpoint
