"""Write and read checkpoints, each complete or absent: one file of tensors, and a JSON beside it that is written last.

The JSON holds the run's position, its configuration, the dataset's checksum and the sha256 of the file of tensors. A
checkpoint without it, or with another checksum, is damaged; the previous one is used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydantic
import torch
from torch import nn

from openwit.schemas.common.atomic import atomic_path, atomic_write, remove_partials, sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.sealed import seal, unseal
from openwit.schemas.common.storage.reading import local_file
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.checkpoints.origin import Origin
from openwit.training.config import TrainConfig
from openwit.training.config.duration import Position

FOLDER = "checkpoints"
FORMAT_VERSION = 1


class CheckpointInfo(pydantic.BaseModel):
    """JSON document of a checkpoint."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    version: int = FORMAT_VERSION
    step: int
    samples: int
    elapsed: float
    finished: bool
    config: TrainConfig
    dataset_name: str
    dataset_sha256: str
    corrupt: list[str]
    torch_version: str
    processes: int = 1
    milestone: bool = False
    averaged: list[str] = []
    skipped: int = 0
    origin: Origin | None = None
    sha256: str = ""

    @property
    def position(self) -> Position:
        """Position of the run."""
        return Position(self.step, self.samples, self.elapsed)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and is complete."""

    path: Path
    info: CheckpointInfo
    state: Mapping[str, Any]

    @property
    def model_state(self) -> dict[str, torch.Tensor]:
        """Weights of the model."""
        state: dict[str, torch.Tensor] = self.state["model"]
        return state


def restore_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into a model.

    Raises:
        DataError: they belong to another architecture, for example if a named model has changed between releases.
    """
    try:
        model.load_state_dict(checkpoint.model_state)
    except RuntimeError as error:
        raise restore_error(checkpoint) from error


def restore_error(checkpoint: Checkpoint) -> DataError:
    """Return the error to raise if a checkpoint's weights do not fit the model of its configuration."""
    return DataError(
        f"the weights in {checkpoint.path} do not fit model {checkpoint.info.config.model.label} as this release "
        "builds it: use the release that trained them, or train from the beginning in another run folder"
    )


def save_checkpoint(run: Path, info: CheckpointInfo, state: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint and remove all but the `keep` newest and the milestones.

    Args:
        run: folder of the run.
        info: its JSON; the checksum is filled in here.
        state: tensors and plain values, as `torch.save` takes them.
        keep: at least 1.
    """
    path = checkpoint_path(run, info.step)
    write_checkpoint(path, info, state)
    for old in _paths(run)[:-keep]:
        if not _is_milestone(old):
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink()
    remove_partials(run / FOLDER)
    return path


def write_checkpoint(path: Path, info: CheckpointInfo, state: Mapping[str, Any]) -> None:
    """Write a checkpoint: the tensors to `path`, then the JSON beside it, each completely or not at all."""
    with storage_faults(path.parent), atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            # Given a path, torch writes the temporary file's name into the archive: equal states have equal bytes.
            _save(state, file)
        digest = sha256_of(temporary)
    described = info.model_copy(update={"sha256": digest}).model_dump_json(indent=1) + "\n"
    with storage_faults(path.parent):
        atomic_write(path.with_suffix(".json"), seal(described))


def _save(state: Mapping[str, Any], file: BinaryIO) -> None:
    """Save a state with torch; what the disk refuses is raised as such.

    torch hides it: the end of its archive fails in turn, with a sentence about positions in a file.
    """
    noting = _NotingFile(file)
    try:
        torch.save(dict(state), noting)  # type: ignore[arg-type]
    except RuntimeError as error:
        if noting.fault is None:
            raise
        raise noting.fault from error


class _NotingFile:
    """A file to write to that remembers the first error of the system."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise

    def flush(self) -> None:
        self._file.flush()


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return run / FOLDER / f"step-{step:09d}.pt"


def _is_milestone(path: Path) -> bool:
    try:
        described = json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(described, dict) and bool(described.get("milestone"))


def latest_checkpoint(run: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest complete checkpoint of a run; damaged ones are reported and skipped. None if there is none.

    Raises:
        DataError: there are checkpoints, but all of them are damaged.
    """
    paths = _paths(run)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DataError as error:
            say(f"skipped a broken checkpoint: {error}")
    # A run that ended while it wrote its first checkpoint has lost nothing but steps.
    unfinished = len(paths) == 1 and not paths[0].with_suffix(".json").exists()
    if paths and not unfinished:
        raise DataError(f"every checkpoint in {run / FOLDER} is broken: remove {run} to begin anew")
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are accepted, no code.

    Raises:
        DataError: it is missing or damaged.
    """
    refuse_special(path, str(path))
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        beside = path.with_suffix(".json")
        info = CheckpointInfo.model_validate_json(unseal(beside.read_bytes(), beside, required=False))
    except FileNotFoundError:
        raise DataError(f"{path} has no {path.stem}.json beside it, so it was not completely written") from None
    except pydantic.ValidationError as error:
        raise DataError(f"{path.with_suffix('.json')} is not a checkpoint's description of this release") from error
    with local_file(path) as local:
        if sha256_of(local) != info.sha256:
            raise DataError(f"{path} does not have the sum its description states")
        state = torch.load(local, map_location="cpu", weights_only=True)
    return Checkpoint(path, info, state)


def find_checkpoint(where: Path, say: Callable[[str], None]) -> Checkpoint:
    """Return the newest checkpoint of a run folder, or the one in a file.

    Raises:
        DataError: there is none.
    """
    if where.is_dir():
        found = latest_checkpoint(where, say)
        if found is None:
            raise DataError(f"{where} holds no checkpoint: train one with `wit-train fit`")
        return found
    return load_checkpoint(where)


def stored_config(run: Path) -> TrainConfig | None:
    """Return the configuration of the run in this folder; None if the folder does not hold a run.

    Raises:
        DataError: it is not readable.
    """
    path = run / "config.json"
    try:
        raw = json.loads(path.read_bytes())
        return TrainConfig.model_validate(raw)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a run's configuration of this release: choose another run folder") from error


def store_config(run: Path, config: TrainConfig) -> None:
    """Write the run's configuration, so that anyone can see what the folder holds; not if it is there already."""
    path, text = run / "config.json", config.model_dump_json(indent=1) + "\n"
    if not path.exists() or path.read_bytes() != text.encode():
        atomic_write(path, text)


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has written a checkpoint completely."""
    return any((run / FOLDER).glob("step-*.json"))


def _paths(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*.pt"))
