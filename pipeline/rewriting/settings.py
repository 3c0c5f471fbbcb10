"""Settings of the stages that rewrite finished datasets."""

from typing import Literal

from pydantic import Field, field_validator

from openwit.pipeline.rewriting.condition_syntax import split_condition
from openwit.pipeline.stages.limits import LARGEST_SEED
from openwit.pipeline.stages.shard.settings import ShardSize
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


class CopySettings(ShardSize):
    """Settings of the files of a dataset that is copied."""

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
