"""What is exported: a model, its tokenizer and where they come from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import FOLDER, Checkpoint, find_checkpoint, load_checkpoint
from openwit.training.models.clip import Clip
from openwit.training.models.weights import SPEC_KEY, into_model, load_model
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, ClipTokenizer, clip_tokenizer, stored_tokenizer

Choice = Literal["model", "ema"]
LINEAGE_KEY = "openwit_lineage"


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        model: on the CPU, float32, in evaluation mode.
        tokenizer: the one it was trained with.
        lineage: JSON data: weights, checkpoints, step, samples, dataset and configuration.
        notes: sentences on what had to be assumed.
    """

    model: Clip
    tokenizer: ClipTokenizer
    lineage: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def logit_scale(self) -> float:
        """What similarities are multiplied by."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What the sigmoid objective adds to them; None where it was not used."""
        return None if self.model.logit_bias is None else float(self.model.logit_bias.detach())

    def metadata(self) -> dict[str, str]:
        """What goes into a safetensors file's header."""
        return {
            "format": "pt",
            SPEC_KEY: self.model.spec.model_dump_json(),
            LINEAGE_KEY: json.dumps(self.lineage, sort_keys=True),
        }


def read_source(
    where: Path, weights: Choice, average: int, quick_gelu: bool | None, say: Callable[[str], None]
) -> Source:
    """The model meant by a run folder, a checkpoint or a file of weights.

    Args:
        where: run folder (its newest checkpoint), checkpoint, or weights in OpenAI's or open_clip's layout.
        weights: the trained ones or their moving average.
        average: the weights' mean over so many of the newest checkpoints, which only a run folder has.
        quick_gelu: for foreign weights, see `openwit.training.models.weights.load_model`.
        say: told of checkpoints that are broken.

    Raises:
        OpenWITError: nothing there that can be exported.
    """
    if where.is_dir() or where.with_suffix(".json").is_file():
        if quick_gelu is not None:
            raise OpenWITError("--quick-gelu is for foreign weights; a run's configuration tells its activation")
        return _of_run(_checkpoints(where, average, say), weights)
    if average != 1 or weights != "model":
        raise OpenWITError(f"{where} is no run folder, so it has neither checkpoints to average nor a moving average")
    model, report = load_model(where, quick_gelu)
    if model.spec.text.vocabulary != VOCABULARY_SIZE:
        raise OpenWITError(f"{where} has a vocabulary of {model.spec.text.vocabulary:,}: of CLIP's size only, 49,408")
    lineage = {"weights_file": {"name": where.name, "sha256": sha256_of(where)}, "spec": _spec(model)}
    return Source(model, clip_tokenizer(), lineage, report.notes)


def averaged(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor over several state dicts, summed in float64; counters are the last one's.

    Raises:
        OpenWITError: they do not hold the same tensors.
    """
    last = states[-1]
    shapes = {key: tensor.shape for key, tensor in last.items()}
    if any({key: tensor.shape for key, tensor in state.items()} != shapes for state in states):
        raise OpenWITError("the checkpoints to average do not hold the same tensors")
    mean = {}
    for key, tensor in last.items():
        if tensor.is_floating_point():
            total = torch.zeros_like(tensor, dtype=torch.float64)
            for state in states:
                total += state[key]
            mean[key] = (total / len(states)).to(tensor.dtype)
        else:
            mean[key] = tensor
    return mean


def _checkpoints(where: Path, average: int, say: Callable[[str], None]) -> list[Checkpoint]:
    """The newest last."""
    if average == 1:
        return [find_checkpoint(where, say)]
    paths = sorted((where / FOLDER).glob("step-*.pt")) if where.is_dir() else []
    if len(paths) < average:
        raise OpenWITError(f"{where} has {len(paths)} checkpoints, {average} are to be averaged: see checkpoint.keep")
    return [load_checkpoint(path) for path in paths[-average:]]


def _of_run(checkpoints: list[Checkpoint], weights: Choice) -> Source:
    newest = checkpoints[-1]
    objective = newest.info.config.objective.name
    if objective not in ("contrastive", "sigmoid"):
        raise OpenWITError(
            f"{newest.path} was trained for {objective}, which has no pair of towers: only contrastive and sigmoid "
            "models can be exported"
        )
    states = [weights_of(checkpoint, weights) for checkpoint in checkpoints]
    state = averaged(states) if len(states) > 1 else states[0]
    model = Clip(newest.info.config.model.resolved(), init_logit_bias=0.0 if "logit_bias" in state else None)
    try:
        into_model(model, state)
    except OpenWITError as error:
        raise OpenWITError(f"{newest.path}: {error}") from error
    lineage = {
        "weights": weights,
        "averaged": [{"step": each.info.step, "sha256": each.info.sha256} for each in checkpoints],
        "training": newest.info.model_dump(mode="json"),
        "spec": _spec(model),
    }
    return Source(model.float().eval(), stored_tokenizer(newest.state), lineage)


def weights_of(checkpoint: Checkpoint, which: Choice) -> dict[str, Tensor]:
    """The weights of one checkpoint; what has no moving average, as counters, is the model's.

    Raises:
        OpenWITError: the run kept no moving average.
    """
    if which == "model":
        return checkpoint.model_state
    moving = checkpoint.state.get("ema")
    if not moving:
        raise OpenWITError(f"{checkpoint.path} holds no moving average: take --weights model")
    known = checkpoint.model_state
    return known | {key: tensor for key, tensor in moving.items() if key in known}


def _spec(model: Clip) -> dict[str, Any]:
    return model.spec.model_dump(mode="json")
