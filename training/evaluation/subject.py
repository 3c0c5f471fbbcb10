"""The model that is evaluated: one of our runs, or a file of weights from elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import Checkpoint, find_checkpoint, restore_model
from openwit.training.export.source import Choice, weights_of
from openwit.training.models.weights import load_model
from openwit.training.objectives.base import Objective
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.objectives.registry import make_model, make_objective
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, ClipTokenizer, clip_tokenizer, stored_tokenizer

TWO_TOWERS = ("contrastive", "sigmoid")


@dataclass(frozen=True)
class Subject:
    """A model, on the CPU and in evaluation mode, and how it wants to be used.

    Attributes:
        model: as `openwit.training.objectives.registry.make_model` makes it.
        objective: what it was trained for.
        kind: name of the objective.
        tokenizer: the one it was trained with.
        precision: of the towers, see `TrainConfig.precision`.
        threads: of the CPU, see `TrainConfig.threads`.
        fast_decode: how its images were decoded in training, see `DataSettings.decode`.
        checkpoint: None for weights from elsewhere.
        about: JSON data on where the weights come from.
        notes: sentences on what had to be assumed.
    """

    model: Any
    objective: Objective
    kind: str
    tokenizer: ClipTokenizer
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    threads: int | None
    fast_decode: bool
    checkpoint: Checkpoint | None
    about: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def embeds(self) -> bool:
        """Whether images and texts meet in one space."""
        return self.kind in TWO_TOWERS

    @property
    def sentence(self) -> str:
        """Which weights these are, in one line."""
        if self.checkpoint is None:
            return f"weights of {self.about['weights_file']}"
        info = self.checkpoint.info
        which = ", moving average of the weights" if self.about["weights"] == "ema" else ""
        return f"step {info.step:,}, {info.samples:,} samples seen{which}"


def read_subject(where: Path, weights: str, quick_gelu: bool | None, say: Callable[[str], None]) -> Subject:
    """The model meant by a run folder (its newest checkpoint), a checkpoint, or OpenAI's or open_clip's weights.

    Args:
        where: the folder or file.
        weights: `model`, or `ema` for their moving average, where the run kept one.
        quick_gelu: for weights from elsewhere, see `openwit.training.models.weights.load_model`.
        say: told of checkpoints that are broken.

    Raises:
        OpenWITError: there is no model, or not the one asked for.
    """
    if weights not in get_args(Choice):
        raise OpenWITError(f"--weights {weights!r} must be one of {', '.join(get_args(Choice))}")
    if not where.exists():
        raise OpenWITError(f"{where} does not exist")
    if where.is_dir() or where.with_suffix(".json").is_file():
        if quick_gelu is not None:
            raise OpenWITError(
                "--quick-gelu is for weights from elsewhere; a run's configuration tells its activation"
            )
        return _of_run(find_checkpoint(where, say), cast(Choice, weights))
    if weights != "model":
        raise OpenWITError(f"{where} is no checkpoint of a run, so it holds no moving average: use --weights model")
    return _of_file(where, quick_gelu)


def _of_run(checkpoint: Checkpoint, weights: Choice) -> Subject:
    info = checkpoint.info
    config = info.config
    if weights == "ema" and not checkpoint.state.get("ema"):
        raise OpenWITError(f"{checkpoint.path} holds no moving average (ema.decay was not set): use --weights model")
    chosen = weights_of(checkpoint, weights)
    model = make_model(config.model, config.objective)
    restore_model(model, replace(checkpoint, state={**checkpoint.state, "model": chosen}))
    about = {
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": info.sha256,
        "weights": weights,
        "objective": config.objective.name,
        "trained_on": {"dataset": info.dataset_name, "sha256": info.dataset_sha256, "split": config.data.split},
        "step": info.step,
        "samples_seen": info.samples,
    }
    return Subject(
        model.eval(),
        make_objective(config.objective),
        config.objective.name,
        stored_tokenizer(checkpoint.state),
        config.precision,
        config.threads,
        config.data.decode == "fast",
        checkpoint,
        about,
    )


def _of_file(path: Path, quick_gelu: bool | None) -> Subject:
    model, report = load_model(path, quick_gelu)
    if model.spec.text.vocabulary != VOCABULARY_SIZE:
        raise OpenWITError(
            f"{path} has a vocabulary of {model.spec.text.vocabulary:,}, and not CLIP's of 49,408: evaluate the run "
            "that it comes from, whose checkpoints hold the tokenizer"
        )
    about = {
        "weights_file": path.name,
        "weights_sha256": sha256_of(path),
        "quick_gelu": model.spec.quick_gelu,
        "notes": list(report.notes),
    }
    objective = ContrastiveObjective("pair")
    tokenizer = clip_tokenizer()
    return Subject(model, objective, "contrastive", tokenizer, "auto", None, False, None, about, tuple(report.notes))
