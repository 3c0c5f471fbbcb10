"""Download and resize with OpenWIT's own code or with img2dataset."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.blocklist import Blocklist, load_blocklist
from openwit.pipeline.download.downloader import Download, Downloader
from openwit.pipeline.images.blur import Boxes
from openwit.pipeline.images.exif import check_exif
from openwit.pipeline.images.process import ImageCheck, ImageDrop, ProcessedImage, process_image
from openwit.pipeline.stages.fetch.settings import FetchSettings


class FetchEngine(Protocol):
    """Downloads images and processes them; `process` is called from several threads.

    Attributes:
        heeds_backlog: `download` starts less while many bodies are worked on, and must be asked for more at once;
            else the caller limits the bodies by waiting.
    """

    heeds_backlog: bool

    def download(self, urls: Iterable[str | None], backlog: Backlog | None = None) -> Iterator[Download]:
        """Yield one download per URL, in any order.

        Args:
            urls: None where there is none at the moment, which only an engine that heeds the backlog is given.
        """

    def process(self, body: bytes, check: ImageCheck | None = None, boxes: Boxes = ()) -> ProcessedImage | ImageDrop:
        """Return the image as it will be stored, or the reason why it is dropped; see `process_image`."""


class NativeEngine:
    """OpenWIT's downloader and image processing."""

    heeds_backlog = True

    def __init__(self, settings: FetchSettings, blocklist: Blocklist | None) -> None:
        self.settings = settings
        self.blocklist = blocklist

    def download(self, urls: Iterable[str | None], backlog: Backlog | None = None) -> Iterator[Download]:
        """Yield one download per URL; what an earlier call learnt about hosts is forgotten."""
        with Downloader(self.settings.download, self.blocklist) as downloader:
            yield from downloader.download(urls, backlog)

    def process(self, body: bytes, check: ImageCheck | None = None, boxes: Boxes = ()) -> ProcessedImage | ImageDrop:
        """See `process_image`."""
        return process_image(body, self.settings.image, check=check, boxes=boxes)


def make_engine(settings: FetchSettings) -> FetchEngine:
    """Return the engine that the settings name, with its blocklist loaded.

    Raises:
        DataError: the blocklist cannot be read.
        RecipeError: the engine is not installed, or what reads EXIF data.
    """
    if settings.image.exif:
        check_exif()
    blocklist = load_blocklist(Path(settings.blocklist)) if settings.blocklist is not None else None
    if settings.engine == "img2dataset":
        from openwit.pipeline.stages.fetch.img2dataset import Img2datasetEngine

        return Img2datasetEngine(settings, blocklist)
    return NativeEngine(settings, blocklist)
