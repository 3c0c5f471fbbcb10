"""What a training run is: typed settings, read from YAML (`schemas.settings.load_settings`)."""

from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from schemas.settings import Settings
from training.duration import Duration
from training.models.zoo import ClipSpec, spec_of


class DataSettings(Settings):
    """The samples and what is done to them."""

    dataset: Path = Field(description="dataset folder, as `wit build` or `wit shard` writes it")
    split: str = Field("train", description="split to train on")
    batch_size: int = Field(256, ge=1, description="pairs in a step; all others of the batch are negatives")
    captions: Literal["random", "first"] = Field(
        "random", description="random: one of an image's texts, drawn anew each epoch; first: the caption"
    )
    crop: Literal["random_crop", "random_resized_crop", "center_crop"] = Field(
        "random_crop",
        description="random_crop: resize the short side, then a random square (the paper's only augmentation)",
    )
    crop_scale: tuple[float, float] = Field(
        (0.9, 1.0), description="random_resized_crop: smallest and largest share of the image's area"
    )
    crop_ratio: tuple[float, float] = Field(
        (0.75, 4 / 3), description="random_resized_crop: smallest and largest width/height of the crop"
    )
    horizontal_flip: bool = Field(False, description="mirror every other image; captions that say left become wrong")
    decode: Literal["fast", "exact"] = Field(
        "fast", description="fast: a JPEG larger than needed is decoded at a fraction of its size; exact: in full"
    )
    workers: int = Field(1, ge=0, description="threads that prepare batches; 0 prepares them between steps")
    prefetch: int = Field(4, ge=1, description="batches prepared ahead")
    max_corrupt: float = Field(
        0.01, ge=0, le=1, description="share of the split's samples that may be unreadable before the run stops"
    )

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "DataSettings":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must hold 0 < smallest <= largest <= 1, but is [{low}, {high}]")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(f"crop_ratio must hold 0 < smallest <= largest, but is [{low}, {high}]")
        return self


class ModelSettings(Settings):
    """The architecture: a name of `training.models.zoo`, or a spec of one's own."""

    name: str | None = Field(None, description="a model of the zoo; vit-tiny-64 where no spec is given either")
    spec: ClipSpec | None = Field(None, description="the architecture written out, instead of a name")
    quick_gelu: bool | None = Field(
        None, description="true: QuickGELU, with which OpenAI trained; false: GELU; null: as the model has it"
    )
    patch_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of image patches left out of each training step (FLIP, arXiv 2212.00794)"
    )

    @pydantic.model_validator(mode="after")
    def _one_of(self) -> "ModelSettings":
        if self.name is not None and self.spec is not None:
            raise ValueError("give name or spec, not both")
        if self.resolved().vision.kind == "resnet" and self.patch_dropout:
            raise ValueError("patch_dropout leaves out patches, which a ResNet does not have: set it to 0")
        return self

    def resolved(self) -> ClipSpec:
        """The architecture that is meant."""
        spec = self.spec
        if spec is None:
            spec = spec_of(self.name if self.name is not None else "vit-tiny-64")
        return spec if self.quick_gelu is None else spec.model_copy(update={"quick_gelu": self.quick_gelu})


class ObjectiveSettings(Settings):
    """What is learned."""

    name: Literal["contrastive"] = Field("contrastive", description="symmetric cross-entropy over the batch")
    positives: Literal["pair", "same_text"] = Field(
        "pair",
        description="pair: only an image's own text (the paper); same_text: every equal text of the batch counts too",
    )


class OptimSettings(Settings):
    """AdamW with decoupled weight decay on matrices only (paper section 2.5, table 18)."""

    lr: float = Field(5e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field((0.9, 0.98), description="the paper's for ViT; 0.9, 0.999 for ResNets")
    eps: float = Field(1e-6, gt=0, description="the paper's for ViT; 1e-8 for ResNets")
    weight_decay: float = Field(0.2, ge=0, description="not applied to gains, biases and other vectors")
    grad_clip: float | None = Field(None, gt=0, description="largest norm of the whole gradient; the paper clips none")


class ScheduleSettings(Settings):
    """How long, and how the learning rate moves: linear warm-up, then a cosine to zero."""

    duration: Duration = Field(description="e.g. 32 epochs, 20000 steps, 1e9 samples, or 20 min of wall clock")
    warmup: Duration = Field(Duration(value=5, unit="percent"), description="e.g. 2000 steps, or 5% of the run")

    @pydantic.model_validator(mode="after")
    def _compatible(self) -> "ScheduleSettings":
        if self.duration.unit == "percent":
            raise ValueError("duration cannot be a percentage: give steps, samples, epochs or minutes")
        if self.duration.value <= 0:
            raise ValueError("duration must be more than nothing")
        timed = self.duration.unit == "minutes"
        if self.warmup.unit != "percent" and (self.warmup.unit == "minutes") != timed:
            raise ValueError(
                f"warmup {self.warmup} cannot be compared with duration {self.duration}: give a percentage"
            )
        return self


class LogSettings(Settings):
    """What is written down and shown."""

    every: int = Field(10, ge=1, description="steps between two records in metrics.jsonl and TensorBoard")
    line_seconds: float = Field(10, gt=0, description="seconds between two lines where the output is no terminal")
    tensorboard: bool = Field(True, description="write TensorBoard event files beside metrics.jsonl")


class CheckpointSettings(Settings):
    """When the run is saved."""

    every: Duration = Field(Duration(value=5, unit="minutes"), description="distance between two checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints kept, the newest ones")


class EvalSettings(Settings):
    """Retrieval on a held-out split while training."""

    split: str | None = Field("val", description="held-out split; null evaluates nothing")
    every: Duration | None = Field(None, description="distance between two evaluations; null: once, at the end")
    limit: int | None = Field(1000, ge=2, description="images to evaluate on, the first ones; null: all")
    batch_size: int = Field(256, ge=1, description="images or texts embedded at once")


class TrainConfig(Settings):
    """A training run. Everything that decides the weights stands here and is stored in each checkpoint."""

    run: Path = Field(description="folder of the run: checkpoints, metrics.jsonl, TensorBoard")
    seed: int = Field(0, ge=0, description="initial weights, order of samples, captions, crops, patch dropout")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of the model; null: one a core (another number may round differently)"
    )
    data: DataSettings
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings
    log: LogSettings = LogSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    eval: EvalSettings = EvalSettings()


# Keys that may differ when a run is taken up again: they do not decide what is learned.
FREE_KEYS = ("run", "threads", "log", "checkpoint", "eval", "data.dataset", "data.workers", "data.prefetch")


def first_difference(old: TrainConfig, new: TrainConfig) -> tuple[str, object, object] | None:
    """The first key on which two configurations differ in what they learn, with both values; None if there is none.

    `data.dataset` is free because the dataset is told apart by its manifest's sha256, not by where it lies.
    """
    return _difference(old.model_dump(mode="json"), new.model_dump(mode="json"), "")


def _difference(old: object, new: object, key: str) -> tuple[str, object, object] | None:
    if key in FREE_KEYS:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = _difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    return None if old == new else (key, old, new)
