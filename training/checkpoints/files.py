"""Checkpoints that are whole or not there: the tensors in one file, and a JSON beside it written last.

The JSON holds the run's place, its configuration, the dataset's sum and the sha256 of the tensors' file. A checkpoint
without it, or whose sum differs, is broken; the one before is used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import nn

from openwit.schemas.common.atomic import atomic_path, atomic_write, remove_partials, sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.duration import Position
from openwit.training.config.train import TrainConfig

FOLDER = "checkpoints"
FORMAT_VERSION = 1


class CheckpointInfo(pydantic.BaseModel):
    """The JSON of a checkpoint."""

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
    sha256: str = ""

    @property
    def position(self) -> Position:
        """Where the run stood."""
        return Position(self.step, self.samples, self.elapsed)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    path: Path
    info: CheckpointInfo
    state: dict[str, Any]

    @property
    def model_state(self) -> dict[str, torch.Tensor]:
        """Weights of the model."""
        state: dict[str, torch.Tensor] = self.state["model"]
        return state


def restore_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint's weights into a model.

    Raises:
        OpenWITError: they are of another architecture, as when a named model has changed between releases.
    """
    try:
        model.load_state_dict(checkpoint.model_state)
    except RuntimeError as error:
        name = checkpoint.info.config.model.name or "the spec it was trained with"
        raise OpenWITError(
            f"the weights in {checkpoint.path} do not fit model {name} as this release builds it: "
            "use the release that trained them, or train anew in another run folder"
        ) from error


def save_checkpoint(run: Path, info: CheckpointInfo, state: Mapping[str, Any], keep: int) -> Path:
    """Writes a checkpoint and removes all but the `keep` newest and the milestones.

    Args:
        run: folder of the run.
        info: its JSON; the sum is filled in here.
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
    """Writes a checkpoint: the tensors to `path`, then the JSON beside it, each whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)
        digest = sha256_of(temporary)
    atomic_write(
        path.with_suffix(".json"), info.model_copy(update={"sha256": digest}).model_dump_json(indent=1) + "\n"
    )


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / FOLDER / f"step-{step:09d}.pt"


def _is_milestone(path: Path) -> bool:
    try:
        described = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and bool(described.get("milestone"))


def latest_checkpoint(run: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint of a run; broken ones are named and passed over. None if there is none.

    Raises:
        OpenWITError: there are checkpoints, but every one of them is broken.
    """
    paths = _paths(run)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except OpenWITError as error:
            say(f"skipped a broken checkpoint: {error}")
    if paths:
        raise OpenWITError(f"every checkpoint in {run / FOLDER} is broken: remove {run} to begin anew")
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; only tensors and plain values are accepted, no code.

    Raises:
        OpenWITError: it is missing or broken.
    """
    if not path.is_file():
        raise OpenWITError(f"{path} does not exist")
    try:
        info = CheckpointInfo.model_validate_json(path.with_suffix(".json").read_text())
    except FileNotFoundError:
        raise OpenWITError(f"{path} has no {path.stem}.json beside it, so it was not completely written") from None
    except (pydantic.ValidationError, UnicodeDecodeError) as error:
        raise OpenWITError(f"{path.with_suffix('.json')} is not a checkpoint's description of this release") from error
    if sha256_of(path) != info.sha256:
        raise OpenWITError(f"{path} does not have the sum its description states")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return Checkpoint(path, info, state)


def find_checkpoint(where: Path, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint meant by a run folder (its newest) or a file.

    Raises:
        OpenWITError: there is none.
    """
    if where.is_dir():
        found = latest_checkpoint(where, say)
        if found is None:
            raise OpenWITError(f"{where} holds no checkpoint: train one with `wit-train fit`")
        return found
    return load_checkpoint(where)


def stored_config(run: Path) -> TrainConfig | None:
    """The configuration of the run in this folder; None if the folder holds no run.

    Raises:
        OpenWITError: it is not readable.
    """
    path = run / "config.json"
    try:
        raw = json.loads(path.read_text())
        return TrainConfig.model_validate(raw)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OpenWITError(
            f"{path} is not a run's configuration of this release: choose another run folder"
        ) from error


def store_config(run: Path, config: TrainConfig) -> None:
    """Writes the run's configuration, from which anyone can see what the folder holds."""
    atomic_write(run / "config.json", config.model_dump_json(indent=1) + "\n")


def _paths(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*.pt"))
