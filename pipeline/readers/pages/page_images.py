"""Collect the images of one page, from its HTML or from the links that a crawl extracted from it.

Common to both sources: drop reasons, Open Graph, resolving URLs against the base, file names of images that are not
training images, one entry per URL, and the licence that the page states.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import MAX_URL_LENGTH, is_plain, is_relative, resolve
from openwit.pipeline.readers.pages.image_rules import (
    ICON,
    PLACEHOLDER,
    SVG,
    TRACKING_PIXEL,
    Evidence,
    ImageRules,
    name_reason,
)

NO_URL = Reason("no_url", "an image without address")
DATA_URI = Reason("data_uri", "an image that stands in the page itself")
BAD_URL = Reason("bad_url", "the address is no http(s) URL")
TOO_MANY = Reason("too_many_images", "an image after as many as are read of one page")
NO_TEXT = Reason("no_text", "no text describes it")
REPEATED = Reason("repeated_on_page", "an address seen before on its page; its texts went there")

IMAGE_REASONS = (NO_TEXT, NO_URL, DATA_URI, BAD_URL, TRACKING_PIXEL, ICON, PLACEHOLDER, SVG, REPEATED, TOO_MANY)
"""Why an image of a page gives no new entry. `REPEATED`: its texts were added to the same URL found before."""

IMAGES = "images"
"""Note: images seen on pages; images = entries + the sum of `IMAGE_REASONS`."""

TAGS_LEFT_OUT = "tags_left_out"
"""Note: tags left out or cut before parsing, see `markup_limits`."""

MAX_IMAGES = 10_000
"""Images read of one page."""

SRC, SRCSET, PICTURE, LAZY, NOSCRIPT, OG = "src", "srcset", "picture", "lazy", "noscript", "og"
ALT, TITLE, FIGCAPTION, ARIA_LABEL, LINK, OG_DESCRIPTION = (
    "alt", "title", "figcaption", "aria-label", "link", "og:description",
)  # fmt: skip

MAX_TEXT = 10_000
"""Maximum code points of a text as found."""

MAX_TITLE = 500
"""Maximum code points of a page's title."""

Texts = list[tuple[str, str]]
"""(text_source, text as found)."""

_WORD = re.compile(r"\w+")
_WIDE = 200  # pixels: neither icon nor pixel
_LARGE_SIDE = 100
_SHOWN = 200  # code points of a reference that is no URL
_SPECIFIC_WORDS, _SPECIFIC_LENGTH = 2, 10

_NO_PATH = ("", "?", "#")
_OPEN_GRAPH = ("og:", "twitter:image")
_OG_IMAGE = ("og:image", "og:image:url", "og:image:secure_url")
_CREATIVE_COMMONS = ("creativecommons.org/licenses/", "creativecommons.org/publicdomain/")


class ExtractSettings(ImageRules):
    """Settings of extraction: which images of a page are used, and at which size."""

    srcset_width: int = Field(
        0,
        ge=0,
        le=65_536,
        description="use the narrowest srcset candidate of at least this width in pixels; 0: always the largest",
    )


@dataclass(slots=True)
class FoundImage:
    """An image of a page.

    Attributes:
        url: absolute http(s) URL.
        image_source: where the URL was found: src | srcset | picture | lazy | noscript | og.
        texts: (text_source, text as found), no text twice; never empty.
        license: absolute URL of the licence that the page states, or None.
        relative: the reference on the page was relative.
        page_title: the page's title as found, or empty; used to identify the language.
    """

    url: str
    image_source: str
    texts: Texts = field(default_factory=list)
    license: str | None = None
    relative: bool = False
    page_title: str = ""


class Reference(NamedTuple):
    """The URL in an image's attribute, which attribute that was (an `image_source`), and the size `srcset` states."""

    url: str
    source: str
    size: float = 0.0

    @property
    def is_wide(self) -> bool:
        """Whether `srcset` states that this is a large image."""
        return self.size >= _WIDE


class DroppedImage(NamedTuple):
    """An image of a page that has a text and was dropped.

    Attributes:
        url: absolute; the reference, cut, where it has none.
        text: the first one.
    """

    url: str
    text: str
    reason: str


def ignore_dropped(_image: DroppedImage) -> None:
    """Ignore a dropped image."""


class PageImages:
    """Collect the images of one page in document order, one entry per URL.

    Args:
        base: URL that references are resolved against, see `document_base`.
        count: receives one of `IMAGE_REASONS` for each image that gives no new entry.
        settings: rules.
        on_drop: receives each image that has a text and is dropped.
    """

    def __init__(
        self,
        base: str | None,
        count: Count,
        settings: ExtractSettings,
        on_drop: Callable[[DroppedImage], None] = ignore_dropped,
    ) -> None:
        self._base = base
        self._scheme = self._origin = self._directory = ""  # of a plain base
        if base and is_plain(base):
            self._scheme = base.partition("/")[0]
            self._origin = "/".join(base.split("/", 3)[:3])
            self._directory = base.partition("?")[0].rpartition("/")[0] + "/"
        self._count = count
        self._settings = settings
        self._on_drop = on_drop
        self._images: dict[str, FoundImage] = {}
        self._known: dict[str, set[str]] = {}  # texts by URL
        self._admitted = 0

    def admit(self) -> bool:
        """Count an image of the page; return False, with a reason counted, after `MAX_IMAGES`."""
        self._count(IMAGES)
        self._admitted += 1
        if self._admitted <= MAX_IMAGES:
            return True
        self._count(TOO_MANY)
        return False

    def _resolve(self, reference: str) -> str | None:
        """Return the absolute URL of a reference; most are plain, and need no parser."""
        url = reference
        if reference[:1] == "/":
            url = (self._scheme if reference[1:2] == "/" else self._origin) + reference
        elif ":" not in reference and reference[:1] not in _NO_PATH:
            url = self._directory + reference
        if len(url) <= MAX_URL_LENGTH and is_plain(url):
            return url
        if self._base is None and ":" not in reference:
            return None  # relative to nothing
        return resolve(self._base, reference)

    def drop(self, reason: str, reference: str = "", texts: Texts | None = None) -> None:
        """Count an admitted image as dropped, and report it if it has a text."""
        self._count(reason)
        if texts and self._on_drop is not ignore_dropped:
            url = None if is_data(reference) or not reference else self._resolve(reference)
            self._on_drop(DroppedImage(url or reference.strip()[:_SHOWN], texts[0][1], reason))

    def add(self, reference: Reference, texts: Texts, *, largest_side: int = 0) -> None:
        """Add an admitted image; `texts` must not be empty.

        Args:
            reference: its URL.
            texts: all its texts.
            largest_side: that the page declares, in pixels; 0 if unknown.
        """
        url = self._resolve(reference.url)
        if url is None:
            self.drop(DATA_URI if is_data(reference.url) else BAD_URL, reference.url, texts)
            return
        reason = name_reason(url, self._settings)
        if reason is not None:
            is_large = reference.is_wide or largest_side >= _LARGE_SIDE
            reason = name_reason(url, self._settings, Evidence(_is_specific(texts), is_large))
        if reason is not None:
            self.drop(reason, url, texts)
            return
        image = self._images.get(url)
        if image is None:
            image = self._images[url] = FoundImage(
                url, reference.source, relative=url is not reference.url and is_relative(reference.url)
            )
        else:
            self._count(REPEATED)
        known = self._known.setdefault(url, set())
        for source, text in texts:
            if text not in known:
                known.add(text)
                image.texts.append((source, text))

    def add_open_graph(self, metas: Iterable[tuple[str, str]]) -> None:
        """Add `og:image` with its structured properties (https://ogp.me/#structured).

        The first image gets the description, because both describe the page; later images may show anything on it.

        Args:
            metas: (property or name, content) of every `<meta>`, in document order, unchanged.
        """
        images: list[tuple[str, Texts]] = []
        description = twitter_image = twitter_alt = ""
        for name, content in metas:
            if not content:
                continue
            name = name.strip().lower()
            if not name.startswith(_OPEN_GRAPH):
                continue
            if name in _OG_IMAGE:
                # og:image:url and :secure_url repeat the og:image before them.
                if name == "og:image" or not images:
                    images.append((content, []))
            elif name == "og:image:alt" and images:
                append_text(images[-1][1], ALT, content)
            elif name == "og:description":
                description = description or content
            elif name in ("twitter:image", "twitter:image:src"):
                twitter_image = twitter_image or content
            elif name == "twitter:image:alt":
                twitter_alt = twitter_alt or content
        if twitter_alt:
            _add_twitter(images, twitter_image, twitter_alt)
        for number, (url, texts) in enumerate(images):
            if not self.admit():
                continue
            if number == 0:
                append_text(texts, OG_DESCRIPTION, description)
            if texts:
                self.add(Reference(url, OG), texts)
            else:
                self.drop(NO_TEXT)

    def found(self, license_url: str | None, page_title: str) -> list[FoundImage]:
        """Return the images, each with the page's licence and title."""
        images = list(self._images.values())
        for image in images:
            image.license = license_url
            image.page_title = page_title
        return images


def _add_twitter(images: list[tuple[str, Texts]], url: str, alt: str) -> None:
    """Add the text of `twitter:image:alt` to that image, which is the first `og:image` if it is not named."""
    same = next((texts for other, texts in images if url in ("", other)), None)
    if same is None and url:
        images.append((url, []))
        same = images[-1][1]
    if same is not None:
        append_text(same, ALT, alt)


def _is_specific(texts: Texts) -> bool:
    """Return whether a text says what the image shows: more than a word or a label."""
    return any(
        len(text) >= _SPECIFIC_LENGTH and len(_WORD.findall(text[:_SHOWN])) >= _SPECIFIC_WORDS
        for source, text in texts
        if source not in (OG_DESCRIPTION, LINK)
    )


def append_text(texts: Texts, source: str, value: str | None) -> None:
    """Append a text, stripped and cut at `MAX_TEXT`, unless it is then empty."""
    text = value.strip()[:MAX_TEXT] if value else ""
    if text:
        texts.append((source, text))


def is_data(reference: str) -> bool:
    """Return whether a reference is a `data:` URI."""
    first = reference[:1]
    return (first in "dD" or first.isspace()) and reference.lstrip()[:5].lower() == "data:"


def document_base(page_url: str, href: str | None) -> str | None:
    """Return the URL that the references of a page are resolved against: `<base href>`, or else the page's URL.

    None if neither is an http(s) URL.
    """
    page = resolve(None, page_url)
    return page if href is None else resolve(page, href) or page


def choose_license(base: str | None, links: Iterable[tuple[str, str]]) -> str | None:
    """Return the licence that a page states by `rel=license`, or else the first Creative Commons deed it links to.

    Args:
        base: see `document_base`.
        links: (href, rel) in document order.
    """
    fallback = None
    for href, rel in links:
        is_stated = "license" in rel.lower().split()
        if not is_stated and not any(part in href for part in _CREATIVE_COMMONS):
            continue
        if fallback is not None and not is_stated:
            continue
        url = resolve(base, href)
        if url is not None and is_stated:
            return url
        fallback = fallback or url
    return fallback
