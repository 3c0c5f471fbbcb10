"""What a training run is: typed settings, read from YAML (`openwit.schemas.common.settings.load_settings`)."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Duration
from openwit.training.models.zoo import ClipSpec, spec_of
from openwit.training.tokenizer.bpe import vocabulary_of


def _path_or_url(raw: Path | str) -> Path | str:
    return raw if "://" in str(raw) else Path(raw)


def is_remote(tar: str) -> bool:
    """Whether a tar has to be streamed: a URL, or `pipe:COMMAND` as webdataset has it."""
    return "://" in tar or tar.startswith("pipe:")


PathOrUrl = Annotated[str | Path, Field(union_mode="left_to_right"), pydantic.AfterValidator(_path_or_url)]


class DatasetShare(Settings):
    """One of several datasets."""

    dataset: Path = Field(description="dataset folder")
    split: str = Field("train", description="split to train on")
    weight: float | None = Field(
        None, gt=0, description="its part of the samples drawn, relative to the others'; all have one or none has"
    )


class DataSettings(Settings):
    """The samples and what is done to them. They come from exactly one of `dataset`, `datasets` and `tars`."""

    dataset: PathOrUrl | None = Field(
        None,
        description="dataset folder, as `wit build` or `wit shard` writes it; or its URL (s3://...), whose shards are "
        "copied to `cache` first, or streamed as `tars` where there is no cache",
    )
    split: str = Field("train", description="split to train on")
    datasets: list[DatasetShare] | None = Field(
        None,
        min_length=1,
        description="several datasets; without weights every sample of all comes once an epoch; with weights each is "
        "walked through shuffled passes of its own, and an epoch is as many samples as all hold together",
    )
    tars: list[str] | None = Field(
        None,
        min_length=1,
        description="plain WebDataset tars: local files, folders or patterns (indexed at the start), or URLs and "
        "pipe:COMMAND (streamed: shuffled in a window, resumed near its place)",
    )
    samples: int | None = Field(None, ge=1, description="samples in `tars` that are streamed: an epoch")
    streams: int = Field(4, ge=1, description="tars that a process streams at once")
    shuffle_buffer: int = Field(2000, ge=0, description="streamed samples among which the next is drawn")
    cache: Path | None = Field(None, description="folder for the shards of a dataset at a URL; the split must fit")
    cache_bytes: int = Field(100_000_000_000, ge=1, description="most bytes that `cache` may take")
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
    def _one_source(self) -> "DataSettings":
        given = [name for name in ("dataset", "datasets", "tars") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give exactly one of dataset, datasets and tars, not {found}")
        weights = [share.weight for share in self.datasets or []]
        if None in weights and any(weight is not None for weight in weights):
            raise ValueError("give every dataset of datasets a weight, or none")
        remote = [is_remote(tar) for tar in self.tars or []]
        if any(remote) and not all(remote):
            raise ValueError("tars must be all local or all remote")
        if any(remote) and self.samples is None:
            raise ValueError("streamed tars need samples: how many they hold together, at least about")
        return self

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
    """The architecture: a name of `openwit.training.models.zoo`, or a spec of one's own."""

    name: str | None = Field(None, description="a model of the zoo; vit-tiny-64 where no spec is given either")
    spec: ClipSpec | None = Field(None, description="the architecture written out, instead of a name")
    quick_gelu: bool | None = Field(
        None, description="true: QuickGELU, with which OpenAI trained; false: GELU; null: as the model has it"
    )
    patch_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of image patches left out of each training step (FLIP, arXiv 2212.00794)"
    )
    tokenizer: Path | None = Field(
        None, description="merges file of `wit-train tokenizer`, instead of CLIP's vocabulary of 49,408"
    )
    vocabulary: int | None = Field(
        None, ge=1, description="rows of the token embedding; null: the tokenizer's (filled in where one is given)"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _counted(cls, raw: Any) -> Any:
        # Here and not in `resolved`, so that a stored configuration means the same where the file is not at hand.
        if not isinstance(raw, dict) or raw.get("vocabulary") is not None:
            return raw
        merges = raw.get("tokenizer")
        return {**raw, "vocabulary": vocabulary_of(Path(merges))} if isinstance(merges, str | Path) else raw

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
        if self.vocabulary is not None:
            spec = spec.model_copy(update={"text": spec.text.model_copy(update={"vocabulary": self.vocabulary})})
        return spec if self.quick_gelu is None else spec.model_copy(update={"quick_gelu": self.quick_gelu})


class ObjectiveSettings(Settings):
    """What is learned. A setting that the named objective does not have must stay at its default."""

    name: Literal["contrastive", "sigmoid", "bag_of_words", "captioning"] = Field(
        "contrastive",
        description="contrastive: symmetric cross-entropy over the batch (the paper); sigmoid: each pair by itself "
        "(SigLIP); bag_of_words: the caption's words from the image; captioning: a language model after the image",
    )
    positives: Literal["pair", "same_text"] = Field(
        "pair",
        description="contrastive. pair: only an image's own text (the paper); same_text: every equal text of the "
        "batch counts too",
    )
    logit_scale: float | None = Field(
        None,
        gt=0,
        description="contrastive, sigmoid: what similarities are multiplied by at first; null: 1/0.07, and 10",
    )
    logit_bias: float | None = Field(
        None, description="sigmoid: what is added to the multiplied similarities at first; null: -10"
    )
    prefix_tokens: int = Field(4, ge=1, description="captioning: tokens that an image becomes (the paper: 4)")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "ObjectiveSettings":
        # By value and not by whether it was given: checkpoints store every key.
        for key, names in _OBJECTIVES_WITH.items():
            if self.name not in names and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is a setting of {' and '.join(names)}, not of {self.name}: leave it out")
        if self.name == "contrastive" and self.logit_scale is not None and self.logit_scale > 100:
            raise ValueError(f"logit_scale {self.logit_scale:g} is above 100, at which contrastive keeps it")
        return self


_OBJECTIVES_WITH = {
    "positives": ("contrastive",),
    "logit_scale": ("contrastive", "sigmoid"),
    "logit_bias": ("sigmoid",),
    "prefix_tokens": ("captioning",),
}


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


class MemorySettings(Settings):
    """What is computed twice so that less need be kept. Gradients stay the same."""

    chunk: int | None = Field(
        None,
        ge=1,
        description="samples of a process embedded with activations at once (GradCache): memory is that of a chunk, "
        "for one more forward pass; null: the whole batch. Under batch normalisation a chunk is normalised by itself",
    )
    checkpoint_activations: bool = Field(
        False, description="keep each block's input only, and compute the block again on the way back"
    )


class SpeedSettings(Settings):
    """How the arithmetic is done. May round differently, and changes nothing else."""

    compile: bool = Field(False, description="torch.compile the towers; texts are padded to multiples of 16 tokens")
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = Field(
        "default", description="mode of torch.compile"
    )
    tf32: bool = Field(False, description="float32 products in TensorFloat-32 on a GPU: faster, 10 bits of mantissa")
    channels_last: bool | None = Field(
        None, description="memory layout of ResNets and patch convolutions; null: on a GPU only"
    )


class DistributedSettings(Settings):
    """Several processes (torchrun, srun); one needs nothing of this."""

    strategy: Literal["replicate", "fsdp"] = Field(
        "replicate", description="replicate: a copy of the model in each process; fsdp: its weights in shards (FSDP2)"
    )
    timeout: Duration = Field(
        Duration(value=30, unit="minutes"), description="how long a process waits for the others before it gives up"
    )

    @pydantic.model_validator(mode="after")
    def _clock(self) -> "DistributedSettings":
        if self.timeout.unit != "minutes" or self.timeout.value <= 0:
            raise ValueError(f"timeout {self.timeout} must be a time: give s, min or h")
        return self


class EmaSettings(Settings):
    """An exponential moving average of the weights, kept in checkpoints."""

    decay: float | None = Field(None, gt=0, lt=1, description="kept of the average in a step, e.g. 0.9999; null: none")
    evaluate: bool = Field(False, description="evaluate the average instead of the weights")

    @pydantic.model_validator(mode="after")
    def _there(self) -> "EmaSettings":
        if self.evaluate and self.decay is None:
            raise ValueError("evaluate needs an average: set ema.decay")
        return self


class LogSettings(Settings):
    """What is written down and shown."""

    every: int = Field(10, ge=1, description="steps between two records in metrics.jsonl and TensorBoard")
    line_seconds: float = Field(10, gt=0, description="seconds between two lines where the output is no terminal")
    tensorboard: bool = Field(True, description="write TensorBoard event files beside metrics.jsonl")
    wandb: str | None = Field(None, description="project of Weights & Biases to log to as well (package wandb)")


class CheckpointSettings(Settings):
    """When the run is saved."""

    every: Duration = Field(Duration(value=5, unit="minutes"), description="distance between two checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints kept, the newest ones")
    keep_every: Duration | None = Field(
        None, description="distance between checkpoints that are made and kept for good; null: none is"
    )
    background: bool = Field(True, description="write a copy while training goes on, instead of waiting for the disk")


class ZeroShotSettings(Settings):
    """Zero-shot classification while training."""

    data: Path = Field(
        description="Parquet file of images and labels, folder of a folder a class, or WebDataset tars with .cls"
    )
    split: str | None = Field(None, description="split of the data; null: the held-out one, where there are several")
    classes: Path | None = Field(None, description="names of numbered classes, one a line; null: the data's own")
    prompts: str = Field("paper", description="paper, cifar10, name, or a file of a template with {label} a line")
    limit: int | None = Field(1000, ge=1, description="images to classify, drawn from the whole; null: all")


class EvalSettings(Settings):
    """Retrieval on a held-out split, and zero-shot classification, while training."""

    dataset: Path | None = Field(None, description="dataset folder of the held-out split; null: the one trained on")
    split: str | None = Field("val", description="held-out split; null: no retrieval")
    every: Duration | None = Field(None, description="distance between two evaluations; null: once, at the end")
    limit: int | None = Field(1000, ge=2, description="images to evaluate on, the first ones; null: all")
    batch_size: int = Field(256, ge=1, description="images or texts embedded at once")
    zero_shot: ZeroShotSettings | None = Field(None, description="null: no classification")


class TrainConfig(Settings):
    """A training run. Everything that decides the weights stands here and is stored in each checkpoint."""

    run: Path = Field(description="folder of the run: checkpoints, metrics.jsonl, TensorBoard")
    seed: int = Field(0, ge=0, description="initial weights, order of samples, captions, crops, patch dropout")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the towers; auto: bf16 on a GPU, fp32 on a CPU; fp16 scales the loss by itself"
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of the model; null: one a core (another number may round differently)"
    )
    data: DataSettings
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings
    memory: MemorySettings = MemorySettings()
    speed: SpeedSettings = SpeedSettings()
    distributed: DistributedSettings = DistributedSettings()
    ema: EmaSettings = EmaSettings()
    log: LogSettings = LogSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    eval: EvalSettings = EvalSettings()

    @pydantic.model_validator(mode="after")
    def _shardable(self) -> "TrainConfig":
        if self.distributed.strategy == "fsdp" and self.objective.name not in ("contrastive", "sigmoid"):
            raise ValueError(f"distributed.strategy fsdp does not know objective {self.objective.name}: use replicate")
        return self
