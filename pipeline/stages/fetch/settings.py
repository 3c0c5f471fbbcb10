"""Settings of the stage fetch."""

from typing import Literal

from pydantic import Field, model_validator

from openwit.pipeline.download.settings import A_DAY, DownloadSettings
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.stages.limits import MOST_PAIRS
from openwit.schemas.common.settings import Settings


class FetchSettings(Settings):
    """Settings of fetch: from URLs to decoded, resized images."""

    download: DownloadSettings = Field(DownloadSettings(), description="how to talk to servers")
    image: ImageSettings = Field(ImageSettings(), description="what to accept and how to resize")
    web: bool = Field(
        True,
        description="download the images that the inputs do not hold; false: refuse pairs whose image is not "
        "in the inputs",
    )
    task: int = Field(
        50_000,
        ge=1,
        le=MOST_PAIRS,
        description="target number of pairs per task; a host is never split among tasks",
    )
    chunk: int = Field(
        4_000,
        ge=1,
        le=10_000_000,
        description="target number of pairs per chunk, the part of a task that is finished on its own",
    )
    engine: Literal["native", "img2dataset"] = Field(
        "native",
        description="img2dataset: its downloader and resizer (needs the extra img2dataset); it ignores robots.txt, "
        "does not check addresses, and follows redirects to any host, also to blocked ones",
    )
    blocklist: str | None = Field(
        None,
        description="file of domains that are never contacted, one per line or a hosts file, gzip or not; engine "
        "native checks redirects too, img2dataset only the URLs themselves",
    )
    # These do not change the data, so they may differ between two runs of one build.
    open_chunks: int = Field(
        8,
        ge=1,
        le=4096,
        exclude=True,
        description="maximum chunks of a task that are fetched at the same time; limits the memory, and what a kill "
        "costs",
    )
    min_success: float = Field(
        0.1,
        ge=0,
        le=1,
        exclude=True,
        description="minimum share of a chunk's URLs with a response; below it the local network counts as down and "
        "the chunk as unfinished; 0 accepts all failures",
    )
    outage_retries: int = Field(3, ge=0, le=1000, exclude=True, description="retries of such a chunk per run")
    outage_pause_s: float = Field(
        30.0, ge=0, le=A_DAY, exclude=True, description="seconds before the first retry; doubles with each further one"
    )

    @model_validator(mode="after")
    def _can_keep_bytes(self) -> "FetchSettings":
        if self.engine == "img2dataset" and self.image.keep_bytes:
            raise ValueError("engine img2dataset encodes every image: keep_bytes needs the engine native")
        return self
