"""Settings of the stage shard."""

from typing import Any

from pydantic import ByteSize, Field, field_validator, model_validator

from openwit.schemas.common.settings import Settings


class ShardSettings(Settings):
    """The dataset's files."""

    samples: int | None = Field(None, ge=1, description="samples a shard aims at; 10,000 where bytes is not given")
    bytes: ByteSize | None = Field(None, description="bytes a tar aims at, as a number or as 500MB or 1GiB")
    seed: int = Field(0, ge=0, description="of the global shuffle")

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        by_samples, by_bytes = (values.get(key) is not None for key in ("samples", "bytes"))
        if by_samples and by_bytes:
            raise ValueError("samples and bytes both say how large a shard is: name one of them")
        return values if by_samples or by_bytes else {**values, "samples": 10_000}

    @field_validator("bytes")
    @classmethod
    def _above_nothing(cls, value: ByteSize | None) -> ByteSize | None:
        if value is not None and value < 1:
            raise ValueError("a shard must hold at least one byte")
        return value
