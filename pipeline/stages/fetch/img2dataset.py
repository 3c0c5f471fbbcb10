"""Use img2dataset's downloader and resizer: the same tables, with its requests and its pixels.

Limitations: it ignores robots.txt, does not check addresses, does not limit sizes or requests per host, and follows
redirects to any host, also to blocked domains. It uses the settings for connections, timeout, retries and opt-out
headers, and the image settings except the early check of `max_pixels`.
"""

import hashlib
import importlib
import importlib.util
import io
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.pool import ThreadPool
from typing import Any

from PIL import Image

from openwit.pipeline.download.backlog import Backlog
from openwit.pipeline.download.blocklist import Blocklist
from openwit.pipeline.download.opt_out import OPT_OUT_RULES
from openwit.pipeline.download.status import Download, FetchStatus, status_of_http
from openwit.pipeline.download.target import BadUrlError, UnsupportedSchemeError, parse_target
from openwit.pipeline.images.blur import Boxes
from openwit.pipeline.images.descriptor import phash_and_descriptor
from openwit.pipeline.images.exif import exif_json
from openwit.pipeline.images.process import (
    ImageCheck,
    ImageDrop,
    ImageReason,
    ProcessedImage,
    ServedImage,
    pixels_hash,
)
from openwit.pipeline.images.settings import ImageFormat, Interpolation
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.images.sniff import describe, sniff_format

_STOP_POLL_S = 0.2
_HTTP_ERROR = re.compile(r"HTTP Error (\d{3})")
# Words in its error messages, which are those of urllib and the system; the first match counts.
_MESSAGES = (
    ("disallowed by X-Robots-Tag", FetchStatus.OPTED_OUT),
    ("Temporary failure in name resolution", FetchStatus.DNS_FAILED),
    ("Name or service not known", FetchStatus.DNS_NOT_FOUND),
    ("No address associated", FetchStatus.DNS_NOT_FOUND),
    ("nodename nor servname", FetchStatus.DNS_NOT_FOUND),
    ("urlopen error timed out", FetchStatus.CONNECT_TIMEOUT),
    ("timed out", FetchStatus.TIMEOUT),
    ("Connection refused", FetchStatus.CONNECT_FAILED),
    ("unreachable", FetchStatus.CONNECT_FAILED),
    ("No route to host", FetchStatus.CONNECT_FAILED),
    ("SSL", FetchStatus.TLS_FAILED),
    ("IncompleteRead", FetchStatus.CONNECTION_LOST),
    ("reset by peer", FetchStatus.CONNECTION_LOST),
    ("closed connection", FetchStatus.CONNECTION_LOST),
    ("infinite loop", FetchStatus.TOO_MANY_REDIRECTS),
    ("BadStatusLine", FetchStatus.BAD_RESPONSE),
)
_FORMATS = {ImageFormat.JPG: "JPEG", ImageFormat.PNG: "PNG", ImageFormat.WEBP: "WEBP"}
_DROPS = {
    "image too small": ImageReason.TOO_SMALL,
    "image area too large": ImageReason.TOO_MANY_PIXELS,
    "aspect ratio too large": ImageReason.BAD_ASPECT_RATIO,
}


class Img2datasetEngine:
    """See `FetchEngine`. The library is imported at first use, which takes seconds.

    Raises:
        RecipeError: img2dataset is not installed.
    """

    heeds_backlog = False

    def __init__(self, settings: FetchSettings, blocklist: Blocklist | None) -> None:
        if importlib.util.find_spec("img2dataset") is None:
            raise RecipeError("fetch.engine img2dataset is not installed: pip install 'openwit[img2dataset]'")
        self.settings = settings
        self.blocklist = blocklist
        self._resizer: Any = None
        # Its resizer closes the process's own output while it works: one image at a time.
        self._one_at_a_time = threading.Lock()

    def download(
        self,
        urls: Iterable[str | None],
        backlog: Backlog | None = None,  # noqa: ARG002
    ) -> Iterator[Download]:
        """Call its `download_image_with_retry` in as many threads as connections are allowed."""
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        theirs = importlib.import_module("img2dataset.downloader")
        chosen = self.settings.download
        wanted = []
        for url in urls:
            if url is None:
                continue
            refused = self._refused(url)
            if refused is None:
                wanted.append(url)
            else:
                yield refused

        def get(url: str) -> Download:
            started = time.monotonic()
            _, stream, error = theirs.download_image_with_retry(
                (url, parse_target(url).url),
                timeout=chosen.timeout_s,
                retries=chosen.retries,
                user_agent_token=chosen.agent_token,
                disallowed_header_directives=set(OPT_OUT_RULES) if chosen.opt_outs else None,
            )
            return self._answer(url, stream, error, time.monotonic() - started)

        ahead, stop = threading.Semaphore(2 * chosen.concurrency), threading.Event()

        def lazily() -> Iterator[str]:
            for url in wanted:
                # The pool waits for this generator when it is closed.
                while not ahead.acquire(timeout=_STOP_POLL_S):
                    if stop.is_set():
                        return
                yield url

        with ThreadPool(min(chosen.concurrency, max(len(wanted), 1))) as pool:
            try:
                for download in pool.imap_unordered(get, lazily()):
                    yield download
                    ahead.release()
            finally:
                stop.set()

    def process(self, body: bytes, check: ImageCheck | None = None, boxes: Boxes = ()) -> ProcessedImage | ImageDrop:
        """Call its `Resizer`, and add the hashes and format name that the tables hold."""
        name = sniff_format(body)
        if name is None:
            return ImageDrop(ImageReason.NOT_AN_IMAGE, describe(body))
        with self._one_at_a_time:
            data, width, height, original_width, original_height, error = self._resize(io.BytesIO(body), boxes)
        if error is not None:
            return ImageDrop(_DROPS.get(error, ImageReason.DECODE_ERROR), f"{name}: {error}"[:200])
        form = self.settings.image.format
        with Image.open(io.BytesIO(data), formats=[_FORMATS[form]]) as image:
            picture = image.convert("RGB")
        drop = check(picture.copy(), ServedImage(original_width, original_height, name)) if check is not None else None
        if drop is not None:
            return drop
        # It returns only the file, so the pixels of that are hashed.
        return ProcessedImage(
            data,
            form.value,
            width,
            height,
            original_width,
            original_height,
            name,
            hashlib.sha256(body).hexdigest(),
            pixels_hash(picture),
            *phash_and_descriptor(picture),
            reencoded=True,
            exif=exif_json(body) if self.settings.image.exif else None,
        )

    def _resize(self, stream: io.BytesIO, boxes: Boxes) -> Any:
        if self._resizer is None:
            image = self.settings.image
            filters = {"downscale_interpolation": image.downscale, "upscale_interpolation": image.upscale}
            self._resizer = importlib.import_module("img2dataset.resizer").Resizer(
                image.size,
                image.mode.value,
                image.only_if_bigger,
                **{name: each.value for name, each in filters.items() if each is not Interpolation.AUTO},
                encode_quality=image.png_compression if image.format is ImageFormat.PNG else image.quality,
                encode_format=image.format.value,
                blurrer=importlib.import_module("img2dataset.blurrer").BoundingBoxBlurrer(),
                min_image_size=image.min_size,
                max_image_area=image.max_pixels,
                max_aspect_ratio=image.max_aspect_ratio,
            )
        return self._resizer(stream, list(boxes)) if boxes else self._resizer(stream)

    def _refused(self, url: str) -> Download | None:
        try:
            target = parse_target(url)
        except UnsupportedSchemeError as error:
            return Download(url, FetchStatus.UNSUPPORTED_SCHEME, detail=str(error))
        except BadUrlError as error:
            return Download(url, FetchStatus.BAD_URL, detail=str(error))
        blocked = self.blocklist.match(target.host) if self.blocklist is not None else None
        return None if blocked is None else Download(url, FetchStatus.BLOCKED_DOMAIN, detail=blocked)

    def _answer(self, url: str, stream: io.BytesIO | None, error: str | None, seconds: float) -> Download:
        # img2dataset does not report its attempts.
        download = Download(url, FetchStatus.SUCCESS, 200, seconds=seconds, attempts=1)
        body = stream.getvalue() if stream is not None else b""
        if stream is None:
            download.status, download.http_status = status_of_message(error or "")
            download.detail = "" if download.http_status else (error or "")[:200]
        elif not body:
            download.status = FetchStatus.EMPTY_BODY
        elif len(body) > self.settings.download.max_bytes:
            download.status, download.detail = FetchStatus.TOO_LARGE, f"{len(body)} bytes"
        else:
            download.body = body
        return download


def status_of_message(message: str) -> tuple[FetchStatus, int | None]:
    """Return the status of one of img2dataset's error messages, and the HTTP status if there is one."""
    http = _HTTP_ERROR.search(message)
    for words, status in _MESSAGES:
        if words in message:
            return status, int(http.group(1)) if http else None
    if http:
        return status_of_http(int(http.group(1))), int(http.group(1))
    return FetchStatus.TRANSFER_FAILED, None
