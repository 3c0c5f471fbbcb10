"""Settings of image processing."""

import enum

from pydantic import Field

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings


class ResizeMode(enum.StrEnum):
    """Ways to resize an image; names and meanings are img2dataset's."""

    NO = "no"
    BORDER = "border"
    KEEP_RATIO = "keep_ratio"
    KEEP_RATIO_LARGEST = "keep_ratio_largest"
    CENTER_CROP = "center_crop"


class ImageSettings(Settings):
    """Settings of images: which are kept, and how they are resized and encoded."""

    size: int = Field(256, ge=1, le=8192, description="Target length in pixels; see mode.")
    mode: ResizeMode = Field(
        ResizeMode.KEEP_RATIO,
        description="keep_ratio: short side becomes size. keep_ratio_largest: long side becomes size. "
        "center_crop: short side becomes size, then the middle square. border: long side becomes size, then "
        "padded with white to a square. no: unchanged.",
    )
    only_if_bigger: bool = Field(
        True, description="Never enlarge: an image that is not larger than size is unchanged, not cropped, not padded."
    )
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of images that are re-encoded.")
    min_size: int = Field(32, ge=1, le=65_536, description="Drop images whose short side, as served, is below this.")
    max_aspect_ratio: float = Field(
        6.0,
        ge=1,
        le=65_536,
        description="Drop images whose long side exceeds the short side by more than this factor.",
    )
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        le=178_956_970,
        description="Drop images with more pixels, by their header and before decoding; limits memory.",
    )
    filters: tuple[PluginSettings, ...] = Field(
        (), description="Filters of your own by dotted name, applied to the resized image: [mypkg.no_dark]."
    )
