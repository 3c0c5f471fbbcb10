"""Settings of the stages that write finished datasets anew."""

from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from openwit.pipeline.rewriting.condition_syntax import split_condition
from openwit.pipeline.stages.limits import LARGEST_SEED, LARGEST_SHARD
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings
from openwit.schemas.manifest import ShardFormat


class WhereSettings(Settings):
    """Settings of conditions: which samples are kept."""

    where: list[str] = Field(
        [],
        description="conditions on columns, all of which must hold: width >= 256, language in en,de, caption ~ kite, "
        "author is not null",
    )
    keep: str | None = Field(
        None, description="list of the uids that are kept: .npy, .parquet or .txt; null keeps every uid"
    )

    @field_validator("where")
    @classmethod
    def _readable(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                split_condition(text)
            except RecipeError as error:
                raise ValueError(str(error)) from None
        return value


class ChooseSettings(WhereSettings):
    """Settings of the choice among the samples of finished datasets."""

    inputs: list[str] = Field(description="finished datasets, folders or URLs, in the order in which they are joined")
    without: list[str] = Field([], description="kept columns that are left out")
    duplicates: Literal["drop", "keep"] = Field(
        "drop",
        description="samples of several inputs with one uid, URL or sha256: drop keeps the first, one in a held-out "
        "split before all",
    )
    images: Literal["all", "judged"] = Field(
        "all", description="judged: only the images and texts that earlier steps passed on"
    )

    @field_validator("inputs")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("name at least one dataset")
        return value


class CopySettings(Settings):
    """Settings of the files of a dataset that is copied."""

    samples: int | None = Field(
        None, ge=1, le=1_000_000_000, description="target samples per shard; 10,000 if bytes is not set"
    )
    bytes: ByteSize | None = Field(None, description="target size of a tar in bytes: a number, 500MB or 1GiB")
    format: ShardFormat | None = Field(
        None,
        description="webdataset, files or parquet, as shard.format; null: as the inputs if they are alike, else "
        "webdataset",
    )
    order: Literal["shuffled", "input"] = Field(
        "input", description="order of the samples: as in the inputs, or shuffled by hash of their URLs"
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="random seed of the shuffle")
    keys: Literal["number", "input"] | None = Field(
        None,
        description="key of a sample: number of its shard and in it, or as in the input; null: as in the input of one "
        "dataset, numbers for several",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        by_samples, by_bytes = (values.get(key) is not None for key in ("samples", "bytes"))
        if by_samples and by_bytes:
            raise ValueError("samples and bytes both set the size of a shard: set one of them")
        return values if by_samples or by_bytes else {**values, "samples": 10_000}

    @field_validator("bytes")
    @classmethod
    def _above_nothing(cls, value: ByteSize | None) -> ByteSize | None:
        if value is not None and value < 1:
            raise ValueError("a shard must hold at least one byte")
        if value is not None and value > LARGEST_SHARD:
            raise ValueError("a shard must hold at most 1 PiB")
        return value
