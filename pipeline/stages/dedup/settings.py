"""Settings of the stage dedup."""

from typing import Any, Literal

from pydantic import Field, model_validator

from openwit.pipeline.stages.limits import MOST_PAIRS
from openwit.schemas.common.settings import Settings


class DedupSettings(Settings):
    """Settings of dedup: which images are duplicates, and which are dropped anyway."""

    duplicates: Literal["drop", "keep"] = Field(
        "drop",
        description="keep: drop no duplicates within the dataset, only copies of evaluation images (exclude), what is "
        "to be removed, and with plain: drop images of one colour",
    )
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
        "drop",
        description="images of one colour, as placeholders are; flags, drawings and gradients are not; kept by "
        "default where duplicates are",
    )
    merge_texts: bool = Field(
        True, description="move the texts of duplicates that surely show the same to the survivor"
    )
    frequent_texts: int | None = Field(
        20,
        ge=2,
        le=MOST_PAIRS,
        description="number of different texts from which on an image counts as a logo or placeholder, and is dropped "
        "with all its duplicates; null: never",
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_plain(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("duplicates") == "keep":
            return {"plain": "keep", **values}
        return values
