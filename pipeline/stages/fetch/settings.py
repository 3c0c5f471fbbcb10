"""Settings of the stage fetch."""

from typing import Literal

from pydantic import Field

from openwit.pipeline.download.settings import DownloadSettings
from openwit.pipeline.images.settings import ImageSettings
from openwit.schemas.common.settings import Settings


class FetchSettings(Settings):
    """From URLs to decoded, resized images."""

    download: DownloadSettings = Field(DownloadSettings(), description="how to talk to servers")
    image: ImageSettings = Field(ImageSettings(), description="what to accept and how to resize")
    chunk: int = Field(10_000, ge=1, description="image URLs a task aims at; all of a host stay together")
    engine: Literal["native", "img2dataset"] = Field(
        "native",
        description="img2dataset: its downloader and resizer in our place (needs the extra img2dataset); it reads no "
        "robots.txt, checks no address, and follows redirects to any host, blocked ones too",
    )
    blocklist: str | None = Field(
        None,
        description="file of domains not to contact, one a line or as a hosts file, gzip or not; engine native keeps "
        "to it on redirects, img2dataset for the URLs themselves only",
    )
    # How hard to try is not what the data are: these may change between two runs of one build.
    min_success: float = Field(
        0.1,
        ge=0,
        le=1,
        exclude=True,
        description="share of a chunk's URLs of which a server must be heard, else our own connection is taken for "
        "broken and the chunk for not done; 0 takes everything as it comes",
    )
    outage_retries: int = Field(3, ge=0, exclude=True, description="so often such a chunk is tried again in a run")
    outage_pause_s: float = Field(
        30.0, ge=0, exclude=True, description="pause before that, in seconds; doubles with each further try"
    )
