"""Define what a plan assumes where a slice cannot measure it; each is an option, `--assume KEY=VALUE`."""

from pydantic import Field

from openwit.schemas.common.settings import Settings


class Assumptions(Settings):
    """Size of the slice, and what it cannot measure. Defaults are the figures of docs/scale.md."""

    slice_bytes: int = Field(
        32 << 20, ge=1 << 14, le=1 << 36, description="bytes of the inputs that are read, over all slices"
    )
    slice_files: int = Field(4, ge=1, le=10_000, description="files of each kind of input that slices are taken from")
    seconds: float = Field(60.0, ge=1, le=86_400, description="no further slice is read after this time")
    workers: int | None = Field(
        None, ge=1, le=1_000_000, description="cores that the build will run on; null: those of this machine"
    )
    success_share: float = Field(
        0.7, gt=0, le=1, description="share of images that can be fetched; it falls with the age of the crawl"
    )
    kept_share: float = Field(0.85, gt=0, le=1, description="share of fetched images that are no duplicates")
    images_per_second: float = Field(
        200.0,
        gt=0,
        le=100_000,
        description="images that a core fetches, decodes and encodes a second; measured: 374 of 55 kB, 90 of 500",
    )
    served_bytes: int = Field(150_000, ge=1, le=1 << 30, description="bytes of an image as it is served")
    stored_bytes: int | None = Field(
        None,
        ge=1,
        le=1 << 30,
        description="bytes of an image as it is stored; null: half a byte per pixel of its size",
    )
    price_per_core_hour: float = Field(0.0, ge=0, le=10_000, description="price of a core for an hour, any currency")
    price_per_gb_month: float = Field(0.0, ge=0, le=10_000, description="price of a gigabyte on disk for a month")
    price_per_gb_download: float = Field(0.0, ge=0, le=10_000, description="price of a gigabyte that is downloaded")
