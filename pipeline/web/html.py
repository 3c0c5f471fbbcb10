"""The images of an HTML page, and the texts that stand with each of them.

One `<img>` gives one URL (its best source) and one text for every place that speaks of it. Crawls lose most images
by looking at `src` alone: relative references, lazy loading, `srcset` and `<noscript>` hold the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field
from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from pipeline.web.charset import to_utf8
from pipeline.web.counting import Count, ignore
from pipeline.web.image_rules import (
    ICON,
    PLACEHOLDER,
    SVG,
    TRACKING_PIXEL,
    ImageRules,
    declared_sides,
    is_placeholder_name,
    name_reason,
    size_reason,
)
from pipeline.web.srcset import Candidate, choose, parse_srcset
from pipeline.web.urls import is_relative, resolve
from pipeline.web.warc import Page

NO_URL = "no_url"
DATA_URI = "data_uri"
BAD_URL = "bad_url"
NO_TEXT = "no_text"
REPEATED = "repeated_on_page"

IMAGE_REASONS = (NO_TEXT, NO_URL, DATA_URI, BAD_URL, TRACKING_PIXEL, ICON, PLACEHOLDER, SVG, REPEATED)
"""Why an image of a page gives nothing of its own. `REPEATED`: its texts went to the same URL found before."""

IMAGES = "images"
"""Note: images seen on pages; images = found + the sum of `IMAGE_REASONS`."""

SRC, SRCSET, PICTURE, LAZY, NOSCRIPT, OG = "src", "srcset", "picture", "lazy", "noscript", "og"
ALT, TITLE, FIGCAPTION, ARIA_LABEL, LINK, OG_DESCRIPTION = (
    "alt", "title", "figcaption", "aria-label", "link", "og:description",
)  # fmt: skip

_LAZY_SRC = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-lsrc", "data-original-src", "data-img-src",
    "data-hi-res-src", "data-hires", "data-echo", "data-src-large", "data-image-src", "data-actualsrc",
    "data-defer-src",
)  # fmt: skip
_LAZY_SRCSET = ("data-srcset", "data-lazy-srcset", "data-original-set", "data-src-set")
_BETTER_THAN_SRC = frozenset({"srcset", *_LAZY_SRC, *_LAZY_SRCSET})
_IMAGE_TAGS = ("img", "amp-img")
_UNREADABLE_TYPES = ("image/svg+xml", "image/jxl", "image/heic", "image/heif")
_OG_IMAGE = ("og:image", "og:image:url", "og:image:secure_url")
_SILENT_TAGS = frozenset({"script", "style", "noscript", "template"})
_SELECTOR = 'img, amp-img, meta, base, a[rel~="license"], link[rel~="license"], a[href*="creativecommons.org/"]'
_CREATIVE_COMMONS = ("creativecommons.org/licenses/", "creativecommons.org/publicdomain/")
_MAX_DEPTH = 16  # ancestors looked at around an image
_MAX_TEXT = 10_000  # code points of a text as it is found


class ExtractSettings(ImageRules):
    """Which images of a page are taken, and at which size."""

    srcset_width: int = Field(
        0, ge=0, description="take the narrowest srcset candidate at least this wide in pixels; 0: always the largest"
    )


_DEFAULTS = ExtractSettings()


@dataclass(slots=True)
class FoundImage:
    """An image of a page.

    Attributes:
        url: absolute http(s) URL.
        image_source: where the URL stood: src | srcset | picture | lazy | noscript | og.
        texts: (text_source, text as found), no text twice; never empty.
        license: absolute URL of the licence the page states, None where it states none.
        relative: the reference on the page was relative.
    """

    url: str
    image_source: str
    texts: list[tuple[str, str]] = field(default_factory=list)
    license: str | None = None
    relative: bool = False


_Attributes = dict[str, str | None]


class _Reference(NamedTuple):
    url: str
    source: str


class _Surroundings(NamedTuple):
    link: LexborNode | None
    figure: LexborNode | None
    picture: LexborNode | None
    in_noscript: bool


def extract(page: Page, count: Count = ignore, settings: ExtractSettings | None = None) -> list[FoundImage]:
    """Finds the images of a page that have at least one text, in document order, `og:image` last.

    Args:
        page: the document; its charset is resolved here.
        count: gets `IMAGES` for each image element seen, and one of `IMAGE_REASONS` for each that gives nothing.
        settings: rules; defaults where None.
    """
    tree = LexborHTMLParser(to_utf8(page.body, page.charset), options=LexborDocumentOptions.WO_EVENTS)
    nodes = _Nodes(tree)
    extractor = _Extractor(_base(nodes, page.url), count, settings or _DEFAULTS)
    for node in nodes.images:
        extractor.add_element(node)
    extractor.add_open_graph(nodes.metas)
    return extractor.found(_license(nodes, extractor.base))


class _Nodes:
    """The elements of a page that matter, found in one pass over the tree, in document order."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.images: list[LexborNode] = []
        self.metas: list[LexborNode] = []
        self.bases: list[LexborNode] = []
        self.license_links: list[LexborNode] = []
        lists = {"img": self.images, "amp-img": self.images, "meta": self.metas, "base": self.bases}
        for node in tree.css(_SELECTOR):
            lists.get(node.tag or "", self.license_links).append(node)


class _Extractor:
    def __init__(self, base: str | None, count: Count, settings: ExtractSettings) -> None:
        self.base = base
        self._count = count
        self._settings = settings
        self._images: dict[str, FoundImage] = {}
        self._captions: dict[int, str] = {}  # by node: figures and links stand around several images

    def found(self, license_url: str | None) -> list[FoundImage]:
        images = list(self._images.values())
        for image in images:
            image.license = license_url
        return images

    def add_element(self, node: LexborNode) -> None:
        self._count(IMAGES)
        attributes = node.attributes
        around = _surroundings(node)
        texts = self._texts(attributes, around)
        if not texts:
            self._count(NO_TEXT)
            return
        get = attributes.get
        reason = size_reason(*declared_sides(get("width"), get("height"), get("style")), self._settings)
        if reason is not None:
            self._count(reason)
            return
        reference = self._reference(attributes, around)
        if isinstance(reference, str):
            self._count(reference)
            return
        self._add(reference, texts)

    def add_open_graph(self, metas: list[LexborNode]) -> None:
        """`og:image` and its structured properties (https://ogp.me/#structured), each image with the description."""
        images: list[tuple[str, list[tuple[str, str]]]] = []
        description = ""
        for node in metas:
            attributes = node.attributes
            name = (attributes.get("property") or attributes.get("name") or "").strip().lower()
            content = attributes.get("content")
            if not content or not name.startswith("og:"):
                continue
            if name in _OG_IMAGE:
                # og:image:url and :secure_url repeat the og:image before them
                if name == "og:image" or not images:
                    images.append((content, []))
            elif name == "og:image:alt" and images:
                _append(images[-1][1], ALT, content)
            elif name == "og:description":
                description = description or content
        for url, texts in images:
            self._count(IMAGES)
            _append(texts, OG_DESCRIPTION, description)
            if texts:
                self._add(_Reference(url, OG), texts)
            else:
                self._count(NO_TEXT)

    def _add(self, reference: _Reference, texts: list[tuple[str, str]]) -> None:
        url = resolve(self.base, reference.url)
        if url is None:
            self._count(DATA_URI if _is_data(reference.url) else BAD_URL)
            return
        reason = name_reason(url, self._settings)
        if reason is not None:
            self._count(reason)
            return
        image = self._images.get(url)
        if image is None:
            image = self._images[url] = FoundImage(url, reference.source, relative=is_relative(reference.url))
        else:
            self._count(REPEATED)
        known = {text for _, text in image.texts}
        for source, text in texts:
            if text not in known:
                known.add(text)
                image.texts.append((source, text))

    def _texts(self, attributes: _Attributes, around: _Surroundings) -> list[tuple[str, str]]:
        texts: list[tuple[str, str]] = []
        for source in (ALT, TITLE, ARIA_LABEL):
            value = attributes.get(source)
            if value:
                _append(texts, source, value)
        if around.figure is not None:
            _append(texts, FIGCAPTION, self._caption(around.figure, _figure_caption))
        if around.link is not None:
            _append(texts, LINK, self._caption(around.link, _link_text))
            _append(texts, LINK, around.link.attributes.get("title"))
        return texts

    def _caption(self, node: LexborNode, read: Callable[[LexborNode], str]) -> str:
        key = node.mem_id
        caption = self._captions.get(key)
        if caption is None:
            caption = self._captions[key] = read(node)
        return caption

    def _reference(self, attributes: _Attributes, around: _Surroundings) -> _Reference | str:
        """The best source of an image element, or the reason why it has none."""
        if around.picture is not None or not _BETTER_THAN_SRC.isdisjoint(attributes):
            better = self._better_than_src(attributes, around)
            if better is not None:
                return better
        src = (attributes.get("src") or "").strip()
        if not src:
            return NO_URL
        if _is_data(src):
            return DATA_URI
        return _Reference(src, NOSCRIPT if around.in_noscript else SRC)

    def _better_than_src(self, attributes: _Attributes, around: _Surroundings) -> _Reference | None:
        candidates: dict[Candidate, str] = {}  # of equal ones the first counts
        for source, sets in (
            (LAZY, [attributes.get(name) for name in _LAZY_SRCSET]),
            (SRCSET, [attributes.get("srcset")]),
            (PICTURE, _picture_sets(around.picture)),
        ):
            for value in sets:
                if value:
                    for candidate in parse_srcset(value):
                        candidates.setdefault(candidate, source)
        while candidates:
            best = choose(candidates, self._settings.srcset_width)
            source = candidates.pop(best)
            if _is_usable(best.url):
                return _Reference(best.url, NOSCRIPT if around.in_noscript else source)
        for name in _LAZY_SRC:
            value = attributes.get(name)
            if value and _is_usable(value) and ("/" in value or "." in value):
                return _Reference(value, LAZY)
        return None


def _surroundings(node: LexborNode) -> _Surroundings:
    link = figure = picture = None
    in_noscript = False
    parent = node.parent
    for _ in range(_MAX_DEPTH):
        if parent is None:
            break
        tag = parent.tag
        if tag == "a":
            link = link or parent
        elif tag == "figure":
            figure = figure or parent
        elif tag == "picture":
            picture = picture or parent
        elif tag == "noscript":
            in_noscript = True
        elif tag == "body":
            break
        parent = parent.parent
    return _Surroundings(link, figure, picture, in_noscript)


def _picture_sets(picture: LexborNode | None) -> list[str | None]:
    if picture is None:
        return []
    sets: list[str | None] = []
    for source in picture.css("source"):
        attributes = source.attributes
        if (attributes.get("type") or "").lower() not in _UNREADABLE_TYPES:
            sets.extend(attributes.get(name) for name in ("srcset", *_LAZY_SRCSET))
    return sets


def _figure_caption(figure: LexborNode) -> str:
    """The caption of a figure that shows one image; a gallery's caption speaks of none of them alone."""
    caption = figure.css_first("figcaption")
    if caption is None:
        return ""
    _, images = _text_and_images(figure)
    return _text_and_images(caption)[0] if images <= 1 else ""


def _link_text(link: LexborNode) -> str:
    """The text of a link that holds one image."""
    first = link.child
    if first is not None and first.next is None and first.tag in _IMAGE_TAGS:
        return ""  # most links around an image hold nothing else
    text, images = _text_and_images(link)
    return text if images <= 1 else ""


def _text_and_images(node: LexborNode) -> tuple[str, int]:
    """The visible text below a node and the number of images; `<noscript>` copies of lazy images do not count."""
    parts = []
    images = 0
    length = 0
    stack = [node.child]
    while stack and length < _MAX_TEXT:
        child = stack.pop()
        while child is not None:
            if child.is_text_node:
                text = child.text_content or ""
                parts.append(text)
                length += len(text)
            elif child.is_element_node:
                tag = child.tag
                if tag in _IMAGE_TAGS:
                    images += 1
                elif tag not in _SILENT_TAGS:
                    parts.append(" ")  # blocks and breaks separate words
                    stack.append(child.next)
                    child = child.child
                    continue
            child = child.next
        parts.append(" ")
    return "".join(parts), images


def _append(texts: list[tuple[str, str]], source: str, value: str | None) -> None:
    text = value.strip()[:_MAX_TEXT] if value else ""
    if text:
        texts.append((source, text))


def _is_usable(reference: str) -> bool:
    if _is_data(reference) or reference[:1] in ("{", "[", "#"):
        return False
    stem = reference.rpartition("/")[2].partition("?")[0].partition(".")[0].lower()
    return not is_placeholder_name(stem)


def _is_data(reference: str) -> bool:
    return reference.lstrip()[:5].lower() == "data:"


def _base(nodes: _Nodes, page_url: str) -> str | None:
    page = resolve(None, page_url)
    for node in nodes.bases:
        href = node.attributes.get("href")
        if href is not None:
            return resolve(page, href) or page
    return page


def _license(nodes: _Nodes, base: str | None) -> str | None:
    """The licence a page states by `rel=license`, or else the first Creative Commons deed it links to."""
    fallback = None
    for node in nodes.license_links:
        attributes = node.attributes
        href = attributes.get("href") or ""
        is_stated = "license" in (attributes.get("rel") or "").lower().split()
        if not is_stated and not any(part in href for part in _CREATIVE_COMMONS):
            continue
        url = resolve(base, href)
        if url is not None and is_stated:
            return url
        fallback = fallback or url
    return fallback
