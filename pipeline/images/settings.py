"""Settings of image processing."""

import enum

from pydantic import Field, model_validator

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings


class ResizeMode(enum.StrEnum):
    """Ways to resize an image; names and meanings are img2dataset's."""

    NO = "no"
    BORDER = "border"
    KEEP_RATIO = "keep_ratio"
    KEEP_RATIO_LARGEST = "keep_ratio_largest"
    CENTER_CROP = "center_crop"


class ImageFormat(enum.StrEnum):
    """Formats in which images are encoded."""

    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


class Interpolation(enum.StrEnum):
    """Filters with which an image is resized; names are img2dataset's."""

    AUTO = "auto"
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    AREA = "area"
    LANCZOS = "lanczos"


_FILTERS = "auto: bicubic, and with fetch.engine img2dataset what it does by default"


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
    downscale: Interpolation = Field(
        Interpolation.AUTO, description=f"Filter, antialiased, for images that become smaller; {_FILTERS} (area)."
    )
    upscale: Interpolation = Field(
        Interpolation.AUTO, description=f"Filter for images that become larger; {_FILTERS} (lanczos)."
    )
    format: ImageFormat = Field(
        ImageFormat.JPG,
        description="Format of the images in the shards. A JPEG or WebP file of this format that needs no change "
        "keeps its picture data.",
    )
    quality: int = Field(95, ge=1, le=100, description="Quality of images that are encoded as JPEG or WebP.")
    png_compression: int = Field(
        6, ge=0, le=9, description="Effort of PNG, which is lossless: 0 is fast and large, 9 slow and small."
    )
    keep_bytes: bool = Field(
        False,
        description="Write the bytes as served to the shards, with their metadata and in their format, after all "
        "checks. Filters and hashes still see the image that size and mode give. Images with boxes to blur are "
        "encoded, in their own size.",
    )
    exif: bool = Field(
        False,
        description="Keep the EXIF data of JPEG, PNG, WebP and TIFF files in the column exif, as img2dataset does: "
        "a JSON object of texts, with the place if the file has it. Needs the extra exif.",
    )
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

    @model_validator(mode="after")
    def _one_way(self) -> "ImageSettings":
        if self.keep_bytes and self.format is not ImageFormat.JPG and "format" in self.model_fields_set:
            raise ValueError(
                f"keep_bytes leaves images in the format in which they are served: leave out format {self.format}"
            )
        return self
