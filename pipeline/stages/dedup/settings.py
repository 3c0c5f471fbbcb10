"""Settings of the stage dedup."""

from typing import Literal

from pydantic import Field

from openwit.schemas.common.settings import Settings


class DedupSettings(Settings):
    """Which images are the same, and which say nothing."""

    max_distance: int | None = Field(
        6,
        ge=0,
        le=8,
        description="bits in which the perceptual hashes of two copies may differ, which must then look alike in a "
        "finer comparison; null: only equal bytes or pixels",
    )
    remove: str | None = Field(
        None, description="list of URLs, hashes and domains that may not enter the dataset, as `wit remove` takes it"
    )
    exclude: list[str] = Field(
        [],
        description="evaluation images whose copies leave: folders, tars, Parquet files, datasets of ours; globs",
    )
    exclude_distance: int = Field(
        4, ge=0, le=8, description="bits in which the hash of an image may differ from a form of an evaluation image"
    )
    plain: Literal["keep", "drop"] = Field(
        "drop", description="images of one tone, of stripes or of a gradient, which no hash can tell apart"
    )
    merge_texts: bool = Field(True, description="the survivor takes over the texts of its duplicates")
    frequent_texts: int | None = Field(
        20,
        ge=2,
        description="an image that stands under so many different texts is a logo or a placeholder: it leaves with "
        "all its copies; null: never",
    )
