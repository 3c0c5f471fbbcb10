"""Settings of the stage shard."""

from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from openwit.pipeline.stages.limits import LARGEST_SEED, LARGEST_SHARD
from openwit.schemas.common.settings import Settings
from openwit.schemas.manifest import ShardFormat


class ShardSize(Settings):
    """Settings of the size of a shard, in samples or bytes."""

    samples: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="target samples per shard; 10,000 if bytes is not set",
    )
    bytes: ByteSize | None = Field(None, description="target size of a tar in bytes: a number, 500MB or 1GiB")

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


class ShardSettings(ShardSize):
    """Settings of the dataset's files."""

    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="random seed of the global shuffle")
    keys: Literal["number", "input"] = Field(
        "number",
        description="key of a sample: number of its shard and in it; input: the key that its table or tar gives it",
    )
    format: ShardFormat = Field(
        "webdataset",
        description="webdataset: a tar per shard; files: a folder per shard, with a file per member; parquet: a table "
        "per shard, with a column of image bytes; each as img2dataset lays them out",
    )
    order: Literal["shuffled", "input"] = Field(
        "shuffled", description="order of the samples; input: by input file and row, as the inputs are named"
    )
