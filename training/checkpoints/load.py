"""Load a trained model: a run folder, a checkpoint file, or weights of OpenAI's, open_clip's or Hugging Face's."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.common.wording import counted
from openwit.training.checkpoints.files import FOLDER, Checkpoint, find_checkpoint, load_checkpoint, restore_model
from openwit.training.config.choices import Weights
from openwit.training.data.transforms import Preprocess
from openwit.training.engine.runtime import Precision, make_autocast
from openwit.training.models.clip import Clip
from openwit.training.models.weights import LoadReport, model_from_weights
from openwit.training.objectives.base import Objective
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.objectives.registry import make_objective
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, clip_tokenizer
from openwit.training.tokenizer.read import AnyTokenizer, stored_tokenizer

logger = logging.getLogger(__name__)

Images = Image.Image | Sequence[Image.Image] | NDArray[np.uint8] | Tensor
"""A PIL image or several; uint8 pixels (H, W, 3) or (B, H, W, 3); or the (B, 3, S, S) float32 of `preprocess`."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model in evaluation mode, with its tokenizer and preprocessing.

    Attributes:
        model: module that the objective trained, float32; on the CPU until `to` is called.
        objective: what it was trained for.
        tokenizer: texts to token ids: `tokenizer(texts, context_length)`, int64 (B, L).
        objective_name: name of the objective in the configuration.
        precision: of the towers, see `TrainConfig.precision`.
        threads: CPU threads, see `TrainConfig.threads`.
        checkpoint: the checkpoint (the newest of averaged ones); None for weights of other programs.
        about: JSON data on the origin of the weights, for results of evaluations.
        lineage: JSON data on weights, checkpoints, dataset and configuration, for exports.
        notes: sentences on what had to be assumed or converted.

    Example:
        >>> model = load_model("out/demo/run")
        >>> similarity = model.encode_image([image]) @ model.encode_text(["a red box", "a blue box"]).T
    """

    model: Any
    objective: Objective
    tokenizer: AnyTokenizer
    _: KW_ONLY
    objective_name: str = "contrastive"
    precision: Precision = "auto"
    threads: int | None = None
    checkpoint: Checkpoint | None = None
    about: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def embeds(self) -> bool:
        """Whether images and texts are embedded into one space."""
        return self.objective.embeds

    @property
    def description(self) -> str:
        """Description of the weights in one line: step and samples seen, or the file they come from."""
        if self.checkpoint is None:
            return f"weights of {self.about['weights_file']}"
        info = self.checkpoint.info
        which = ", moving average of the weights" if self.about["weights"] == Weights.EMA else ""
        return f"step {info.step:,}, {counted(info.samples, 'sample')} seen{which}"

    @property
    def logit_scale(self) -> float:
        """Learned factor of the similarities."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """Learned bias of the similarities (sigmoid objective); None without one."""
        return None if self.model.logit_bias is None else float(self.model.logit_bias.detach())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @cached_property
    def preprocess(self) -> Preprocess:
        """Transform of one image: PIL image, encoded bytes or uint8 (H, W, 3) to float32 (3, S, S), normalised."""
        return Preprocess(self.model.inputs.image_size, self.model.inputs.images)

    def to(self, device: torch.device | str) -> "LoadedModel":
        """Move the weights to a device, in place; return this object."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def encode_image(self, images: Images, *, batch_size: int = 256) -> Tensor:
        """Embed images.

        Args:
            images: see `Images`; float32 tensors must be preprocessed already.
            batch_size: images embedded at once.

        Returns:
            (B, D) float32 on the CPU, unit length.

        Raises:
            DataError: the model has no image and text embeddings, or the images have another shape.
            TypeError: something is no image, such as the path of a file.
        """
        self._check_embeds()
        batch = self._pixels(images)
        with make_autocast(self.device, self.precision):
            parts = [self.model.encode_image(part.to(self.device)).cpu() for part in torch.split(batch, batch_size)]
        return torch.cat(parts)

    @torch.inference_mode()
    def encode_text(self, texts: str | Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Embed texts.

        Args:
            texts: one or more strings; longer ones are truncated to the context length.
            batch_size: texts embedded at once.

        Returns:
            (B, D) float32 on the CPU, unit length.

        Raises:
            DataError: the model has no image and text embeddings.
        """
        self._check_embeds()
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise DataError("there are no texts to embed")
        tokens = torch.from_numpy(self.tokenizer(texts, self.model.inputs.context_length))
        with make_autocast(self.device, self.precision):
            parts = [self.model.encode_text(part.to(self.device)).cpu() for part in torch.split(tokens, batch_size)]
        return torch.cat(parts)

    def _check_embeds(self) -> None:
        if not self.embeds:
            raise DataError(f"a model trained for {self.objective_name} has no image and text embeddings")

    def _pixels(self, images: Images) -> Tensor:
        """Return (B, 3, S, S) float32, normalised."""
        size = self.model.inputs.image_size
        if isinstance(images, Tensor):
            batch = images[None] if images.ndim == 3 else images
            if not batch.is_floating_point() or batch.shape[1:] != (3, size, size) or not len(batch):
                raise DataError(f"a tensor of images must be float (B, 3, {size}, {size}), as preprocess returns it")
            return batch.float()
        if isinstance(images, np.ndarray):
            images = list(images[None] if images.ndim == 3 else images)
        elif isinstance(images, Image.Image):
            images = [images]
        if not len(images):
            raise DataError("there are no images to embed")
        for image in images:
            if not isinstance(image, Image.Image | np.ndarray | bytes):
                raise TypeError(f"images must be PIL images or pixels, got {type(image).__name__}: open files first")
        return torch.stack([self.preprocess(image) for image in images])


def load_model(
    path: Path | str,
    *,
    weights: Weights | str = Weights.MODEL,
    average: int = 1,
    quick_gelu: bool | None = None,
    report: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load the model of a run folder (its newest checkpoint), a checkpoint, or weights of other programs.

    These are OpenAI's or open_clip's file of weights, or a folder of open_clip's, of Hugging Face's CLIP or SigLIP, or
    an export of ours.

    Args:
        path: the folder or file.
        weights: `model`, or `ema` for their moving average if the run kept one.
        average: use the mean of the weights of the newest N checkpoints of a run folder.
        quick_gelu: for weights of other programs, see `openwit.training.models.weights.model_from_weights`.
        report: receives a sentence for each damaged checkpoint that is skipped; by default they are logged.

    Raises:
        RecipeError: `weights`, `average` or `quick_gelu` do not apply to this path.
        DataError: there is no model at this path, or it is damaged.
    """
    path, report = as_path(path), report or logger.warning
    if weights not in list(Weights):
        raise RecipeError(f"weights {str(weights)!r} must be one of {', '.join(Weights)}")
    weights = Weights(weights)
    refuse_special(path, str(path))
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.is_dir() and not (path / FOLDER).is_dir() and _holds_weights(path):
        _check_plain(path, weights, average)
        return _from_folder(path, quick_gelu)
    if path.is_dir() or path.with_suffix(".json").is_file():
        if quick_gelu is not None:
            raise RecipeError(
                "quick_gelu is for weights of other programs; a run's configuration states its activation"
            )
        return _from_checkpoints(_checkpoints(path, average, report), weights)
    _check_plain(path, weights, average)
    return _from_weights(path, quick_gelu)


def weights_of(checkpoint: Checkpoint, weights: Weights) -> dict[str, Tensor]:
    """Return the weights of a checkpoint; tensors without a moving average, such as counters, are the model's.

    Raises:
        RecipeError: the run kept no moving average.
    """
    if weights is Weights.MODEL:
        return checkpoint.model_state
    moving = checkpoint.state.get("ema")
    if not moving:
        raise RecipeError(
            f"{checkpoint.path} holds no moving average (ema.decay was not set): use weights {Weights.MODEL}"
        )
    known = checkpoint.model_state
    return known | {key: tensor for key, tensor in moving.items() if key in known}


def average_states(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Return the mean of each tensor over several state dicts, summed in float64; counters are the last one's.

    Args:
        states: of one architecture.
        shares: weight of each, whose sum is 1; None: equal ones.

    Raises:
        DataError: they do not hold the same tensors.
    """
    last = states[-1]
    shapes = {key: tensor.shape for key, tensor in last.items()}
    if any({key: tensor.shape for key, tensor in state.items()} != shapes for state in states):
        raise DataError("the checkpoints to average do not hold the same tensors")
    mean = {}
    for key, tensor in last.items():
        if tensor.is_floating_point():
            total = torch.zeros_like(tensor, dtype=torch.float64)
            for number, state in enumerate(states):
                total += state[key] if shares is None else state[key].double() * shares[number]
            mean[key] = (total / len(states) if shares is None else total).to(tensor.dtype)
        else:
            mean[key] = tensor
    return mean


def _checkpoints(path: Path, average: int, report: Callable[[str], None]) -> list[Checkpoint]:
    """Return the checkpoints to use, the newest last."""
    if average == 1:
        return [find_checkpoint(path, report)]
    paths = sorted((path / FOLDER).glob("step-*.pt")) if path.is_dir() else []
    if len(paths) < average:
        raise RecipeError(f"{path} has {len(paths)} checkpoints, {average} are to be averaged: see checkpoint.keep")
    return [load_checkpoint(each) for each in paths[-average:]]


def _from_checkpoints(checkpoints: list[Checkpoint], weights: Weights) -> LoadedModel:
    newest = checkpoints[-1]
    info, config = newest.info, newest.info.config
    states = [weights_of(checkpoint, weights) for checkpoint in checkpoints]
    state = average_states(states) if len(states) > 1 else states[0]
    objective = make_objective(config.objective)
    model = objective.build_model(config.model)
    restore_model(model, replace(newest, state={**newest.state, "model": state}))
    about = {
        "checkpoint": newest.path.name,
        "checkpoint_sha256": info.sha256,
        "weights": str(weights),
        "objective": config.objective.name,
        "trained_on": {"dataset": info.dataset_name, "sha256": info.dataset_sha256, "split": config.data.split},
        "step": info.step,
        "samples_seen": info.samples,
    }
    lineage = {
        "weights": str(weights),
        "averaged": [{"step": each.info.step, "sha256": each.info.sha256} for each in checkpoints],
        "training": info.model_dump(mode="json"),
        "spec": _spec(model),
    }
    return LoadedModel(
        model.float().eval(),
        objective,
        stored_tokenizer(newest.state),
        objective_name=config.objective.name,
        precision=config.precision,
        threads=config.threads,
        checkpoint=newest,
        about=about,
        lineage=lineage,
    )


def _check_plain(path: Path, weights: Weights, average: int) -> None:
    if average != 1 or weights is not Weights.MODEL:
        raise RecipeError(
            f"{path} is not a run folder, so it has neither checkpoints to average nor a moving average: "
            "use the weights as they are"
        )


def _holds_weights(folder: Path) -> bool:
    from openwit.training.checkpoints.initial import holds_weights  # which reads checkpoints by this module

    return holds_weights(folder)


def _from_folder(path: Path, quick_gelu: bool | None) -> LoadedModel:
    from openwit.training.checkpoints.foreign import model_of_folder

    model, report, tokenizer, found = model_of_folder(path, quick_gelu)
    return _of_weights(path.resolve().name, found.sha256, model, report, tokenizer)


def _from_weights(path: Path, quick_gelu: bool | None) -> LoadedModel:
    model, report = model_from_weights(path, quick_gelu=quick_gelu)
    tokenizer: AnyTokenizer = clip_tokenizer()
    if model.spec.text.vocabulary != VOCABULARY_SIZE or not model.spec.text.causal:
        from openwit.training.checkpoints.foreign import tokenizer_of

        try:
            tokenizer = tokenizer_of(path.parent, model.spec)
        except DataError as error:
            raise DataError(
                f"{path} has a vocabulary of {model.spec.text.vocabulary:,} instead of CLIP's 49,408: use the run "
                "that it comes from, whose checkpoints hold the tokenizer, or put its tokenizer.json beside it"
            ) from error
    return _of_weights(path.name, sha256_of(path), model, report, tokenizer)


def _of_weights(name: str, digest: str, model: Clip, report: LoadReport, tokenizer: AnyTokenizer) -> LoadedModel:
    about = {
        "weights_file": name,
        "weights_sha256": digest,
        "quick_gelu": model.spec.quick_gelu,
        "notes": list(report.notes),
    }
    return LoadedModel(
        model,
        ContrastiveObjective(),
        tokenizer,
        about=about,
        lineage={"weights_file": {"name": name, "sha256": digest}, "spec": _spec(model)},
        notes=report.notes,
    )


def _spec(model: Any) -> dict[str, Any]:
    spec: dict[str, Any] = getattr(model, "spec", model.inputs).model_dump(mode="json")
    return spec
