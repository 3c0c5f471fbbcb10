"""Settings of the stage dedup."""

from typing import Literal

from pydantic import Field

from openwit.schemas.common.settings import Settings


class DedupSettings(Settings):
    """Settings of dedup: which images are duplicates, and which are dropped anyway."""

    max_distance: int | None = Field(
        6,
        ge=0,
        le=8,
        description="maximum differing bits in the perceptual hashes of near duplicates, whose descriptors must be "
        "similar too; null: only equal bytes or pixels",
    )
    remove: str | None = Field(
        None, description="list of URLs, hashes and domains to drop, in the format of the removal list"
    )
    exclude: list[str] = Field(
        [],
        description="evaluation images whose copies are dropped: folders, tars, Parquet files, datasets; globs",
    )
    exclude_distance: int = Field(
        4,
        ge=0,
        le=8,
        description="maximum differing bits between an image and a variant of an evaluation image",
    )
    plain: Literal["keep", "drop"] = Field(
        "drop", description="images of one colour, as placeholders are; flags, drawings and gradients are not"
    )
    merge_texts: bool = Field(
        True, description="move the texts of duplicates that surely show the same to the survivor"
    )
    frequent_texts: int | None = Field(
        20,
        ge=2,
        description="number of different texts from which on an image counts as a logo or placeholder, and is dropped "
        "with all its duplicates; null: never",
    )
