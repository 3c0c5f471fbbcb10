"""The `data` section: samples, captions, augmentation, loader."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings
from openwit.training.config.limits import LARGEST_BATCH, LARGEST_WEIGHT, MOST_SAMPLES, MOST_WORKERS


def _path_or_url(raw: Path | str) -> Path | str:
    return raw if "://" in str(raw) else Path(raw)


def is_remote(tar: str) -> bool:
    """Return whether a tar has to be streamed: a URL, or `pipe:COMMAND` as webdataset has it."""
    return "://" in tar or tar.startswith("pipe:")


PathOrUrl = Annotated[str | Path, Field(union_mode="left_to_right"), pydantic.AfterValidator(_path_or_url)]


SOURCES = ("dataset", "datasets", "tars", "table", "folder")


class DatasetShare(Settings):
    """One of several datasets."""

    dataset: PathOrUrl = Field(description="dataset folder, or its URL")
    split: str = Field("train", description="split to train on")
    weight: float | None = Field(
        None,
        gt=0,
        le=LARGEST_WEIGHT,
        description="its part of the samples drawn, relative to the others'; all have one or none has",
    )


class CaptionWeights(Settings):
    """Which of an image's texts is shown: a source is drawn by weight among those it has, then one of its texts."""

    weights: dict[str, Annotated[float, Field(ge=0, le=LARGEST_WEIGHT)]] = Field(
        description="weight of each source of texts, as the dataset stores them (alt, title, figcaption, table, ...)"
    )
    others: float = Field(
        0.0,
        ge=0,
        le=LARGEST_WEIGHT,
        description="weight of every other source; an image of which no text has a weight shows any of them",
    )

    @pydantic.model_validator(mode="after")
    def _some(self) -> "CaptionWeights":
        if not self.others and not any(self.weights.values()):
            raise ValueError("give at least one source a weight above 0")
        return self


class ColourJitter(Settings):
    """Random changes of an image's colours; open_clip's usual ones are 0.32, 0.32, 0.32, 0.08 at 0.8."""

    brightness: float = Field(0.0, ge=0, le=100, description="largest change of the factor of brightness, around 1")
    contrast: float = Field(0.0, ge=0, le=100, description="largest change of the factor of contrast, around 1")
    saturation: float = Field(0.0, ge=0, le=100, description="largest change of the factor of saturation, around 1")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the hues, as a share of the circle")
    probability: float = Field(1.0, ge=0, le=1, description="share of the images whose colours are changed")


class DataSettings(Settings):
    """Samples and their preprocessing. They come from exactly one of `dataset`, `datasets`, `tars`, `table`
    and `folder`.
    """

    dataset: PathOrUrl | None = Field(
        None,
        description="dataset folder, as `wit build` or `wit shard` writes it; or its URL (s3://...), read as "
        "`remote` says",
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
        description="plain WebDataset tars: local files, folders or patterns (indexed at the start; compressed ones "
        "are unpacked to `cache` first), or URLs and pipe:COMMAND (streamed: shuffled in a window, resumed near its "
        "place)",
    )
    samples: int | None = Field(
        None, ge=1, le=MOST_SAMPLES, description="samples in `tars` that are streamed: an epoch"
    )
    streams: int = Field(4, ge=1, le=MOST_WORKERS, description="tars that a process streams at once")
    shuffle_buffer: int = Field(2000, ge=0, le=10**9, description="streamed samples among which the next is drawn")
    table: Path | None = Field(
        None, description="CSV, TSV or Parquet file of image paths and captions; paths are relative to its folder"
    )
    image_column: str | None = Field(None, description="column of `table` with the paths; null: found by its name")
    caption_column: str | None = Field(
        None, description="column of `table` with the captions; null: found by its name"
    )
    folder: Path | None = Field(
        None,
        description="folder of images, each with its caption in a .txt file of its name; or without any, in a "
        "folder for each class",
    )
    class_caption: str = Field(
        "a photo of a {}.", description="caption of an image in a class's folder; {} is the class"
    )
    cache: Path | None = Field(None, description="folder for shards of datasets at a URL, and for unpacked tars")
    cache_bytes: int = Field(100_000_000_000, ge=1, le=10**18, description="most bytes that `cache` may take")
    remote: Literal["auto", "copy", "blocks", "ranges", "stream"] = Field(
        "auto",
        description="datasets at a URL. copy: all to `cache` first; blocks: whole shards through `cache`, the next "
        "ones while these are read; ranges: single samples by ranges of bytes, no disk; stream: as `tars`, without "
        "the index; auto: with a cache copy if the split fits, else blocks; without one ranges",
    )
    block_shards: int = Field(
        16,
        ge=1,
        le=10**6,
        description="blocks, ranges: shards among whose samples the order is shuffled; two blocks fit `cache`",
    )
    remote_timeout: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="seconds that one attempt of a remote read may take; the third failure ends the run",
    )
    batch_size: int = Field(
        256, ge=1, le=LARGEST_BATCH, description="pairs in a step; all others of the batch are negatives"
    )
    captions: Literal["random", "first"] | CaptionWeights = Field(
        "random",
        description="random: one of an image's texts, drawn anew each epoch; first: the caption; weights: by source",
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
    colour_jitter: ColourJitter | None = Field(None, description="random changes of colours; null: none")
    grayscale: float = Field(0.0, ge=0, le=1, description="share of the images whose colours are removed")
    augment: list[PluginSettings] | None = Field(
        None,
        description="your own changes by dotted name, after all others: called with the cropped PIL image and a "
        "seeded random.Random, each returns an image, or its uint8 pixels, of the same size",
    )
    decode: Literal["fast", "exact"] = Field(
        "fast", description="fast: a JPEG larger than needed is decoded at a fraction of its size; exact: in full"
    )
    decoded_bytes: int = Field(
        0,
        ge=0,
        le=10**13,
        description="most bytes of decoded images that a process keeps in memory, for a dataset that is decoded in "
        "many epochs: 3 per pixel of the stored images. The batches stay the same; 0: none",
    )
    workers: int = Field(
        1,
        ge=0,
        le=MOST_WORKERS,
        description="threads or processes that prepare batches; 0: the training thread",
    )
    workers_in: Literal["threads", "processes"] = Field(
        "threads",
        description="where `workers` work. threads: of this process, which share Python's lock with the thread that "
        "launches the model's work; processes: the same batches, for one more copy of each; on machines of many cores",
    )
    prefetch: int = Field(4, ge=1, le=MOST_WORKERS, description="batches prepared ahead")
    max_corrupt: float = Field(
        0.01, ge=0, le=1, description="share of the split's samples that may be unreadable before the run stops"
    )

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            others = f": set {' and '.join(given[1:])} to null, or {given[0]}" if given else ""
            found = f"{' and '.join(given)}{others}" if given else "none of them"
            raise ValueError(f"give exactly one of dataset, datasets, tars, table and folder, not {found}")
        if self.table is None and (self.image_column or self.caption_column):
            raise ValueError("image_column and caption_column are of a table, and there is none")
        if "{}" not in self.class_caption:
            raise ValueError("class_caption needs {} where the class is to stand")
        urls = [share.dataset for share in self.datasets or []] if self.dataset is None else [self.dataset]
        remote_urls = [url for url in urls if isinstance(url, str)]
        if self.remote in ("copy", "blocks") and remote_urls and self.cache is None:
            raise ValueError(f"remote: {self.remote} needs cache, a folder for the shards")
        if self.remote == "stream" and self.datasets is not None and remote_urls:
            raise ValueError("remote: stream has no mixtures: take blocks or ranges")
        weights = [share.weight for share in self.datasets or []]
        if None in weights and any(weight is not None for weight in weights):
            raise ValueError("give every dataset of datasets a weight, or none")
        remote = [is_remote(tar) for tar in self.tars or []]
        if any(remote) and not all(remote):
            raise ValueError("tars must be all local or all remote")
        if self.workers_in == "processes" and not self.workers:
            raise ValueError("workers_in: processes needs workers: how many")
        if self.workers_in == "processes" and (any(remote) or (self.remote == "stream" and remote_urls)):
            raise ValueError("workers_in: processes cannot share one stream: set workers_in: threads")
        if any(remote) and self.samples is None:
            raise ValueError("streamed tars need samples: how many they hold together, at least about")
        return self

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "DataSettings":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must hold 0 < smallest <= largest <= 1, but is [{low}, {high}]")
        low, high = self.crop_ratio
        if not 0 < low <= high <= 1000:
            raise ValueError(f"crop_ratio must hold 0 < smallest <= largest <= 1000, but is [{low}, {high}]")
        return self
