"""What downloads and resizes: our own code, or img2dataset's in its place."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from openwit.pipeline.download.blocklist import Blocklist, load_blocklist
from openwit.pipeline.download.downloader import Download, Downloader
from openwit.pipeline.images.process import ImageCheck, ImageDrop, ProcessedImage, process_image
from openwit.pipeline.stages.fetch.settings import FetchSettings


class Engine(Protocol):
    """Two halves of a fetch. `process` is called from several threads."""

    def download(self, urls: Sequence[str]) -> Iterator[Download]:
        """One answer for each URL, in any order."""

    def process(self, body: bytes, check: ImageCheck | None = None) -> ProcessedImage | ImageDrop:
        """Return the image as it will be stored, or the reason why it is dropped; see `process_image`."""


class NativeEngine:
    """Our own downloader and image processing."""

    def __init__(self, settings: FetchSettings, blocklist: Blocklist | None) -> None:
        self.settings = settings
        self.blocklist = blocklist

    def download(self, urls: Sequence[str]) -> Iterator[Download]:
        """Every call begins anew: nothing that an earlier one learnt of hosts holds for it."""
        with Downloader(self.settings.download, self.blocklist) as downloader:
            yield from downloader.download(urls)

    def process(self, body: bytes, check: ImageCheck | None = None) -> ProcessedImage | ImageDrop:
        """See `process_image`."""
        return process_image(body, self.settings.image, check=check)


def make_engine(settings: FetchSettings) -> Engine:
    """The engine that the settings name, its blocklist read.

    Raises:
        OpenWITError: the blocklist is no list, or the engine is not installed.
    """
    blocklist = load_blocklist(Path(settings.blocklist)) if settings.blocklist is not None else None
    if settings.engine == "img2dataset":
        from openwit.pipeline.stages.fetch.img2dataset import Img2datasetEngine

        return Img2datasetEngine(settings, blocklist)
    return NativeEngine(settings, blocklist)
