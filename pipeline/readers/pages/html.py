"""Extract the images of an HTML page with their texts.

One `<img>` gives one URL (its best source) and all texts that describe it. With only `src` most images would be
missed: the others are in relative references, lazy loading, `srcset` and `<noscript>`.
"""

from collections.abc import Callable
from typing import NamedTuple

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.readers.crawl.warc import Page
from openwit.pipeline.readers.pages.charset import to_utf8
from openwit.pipeline.readers.pages.image_rules import declared_sides, is_placeholder_name, size_reason
from openwit.pipeline.readers.pages.page_images import (
    ALT,
    ARIA_LABEL,
    DATA_URI,
    FIGCAPTION,
    IMAGE_REASONS,
    IMAGES,
    LAZY,
    LINK,
    MAX_TEXT,
    MAX_TITLE,
    NO_TEXT,
    NO_URL,
    NOSCRIPT,
    PICTURE,
    SRC,
    SRCSET,
    TITLE,
    ExtractSettings,
    FoundImage,
    PageImages,
    Reference,
    Texts,
    append_text,
    choose_license,
    document_base,
    is_data,
)
from openwit.pipeline.readers.pages.srcset import Candidate, choose, parse_srcset

__all__ = ["IMAGES", "IMAGE_REASONS", "ExtractSettings", "FoundImage", "extract"]

_LAZY_SRC = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-lsrc", "data-original-src", "data-img-src",
    "data-hi-res-src", "data-hires", "data-echo", "data-src-large", "data-image-src", "data-actualsrc",
    "data-defer-src",
)  # fmt: skip
_LAZY_SRCSET = ("data-srcset", "data-lazy-srcset", "data-original-set", "data-src-set")
_BETTER_THAN_SRC = frozenset({"srcset", *_LAZY_SRC, *_LAZY_SRCSET})
_IMAGE_TAGS = ("img", "amp-img")
_UNREADABLE_TYPES = ("image/svg+xml", "image/jxl", "image/heic", "image/heif")
_SILENT_TAGS = frozenset({"script", "style", "noscript", "template"})
_SELECTOR = 'img, amp-img, meta, base, title, a[rel~="license"], link[rel~="license"], a[href*="creativecommons.org/"]'
_MAX_DEPTH = 16  # ancestors looked at around an image

_DEFAULTS = ExtractSettings()


_Attributes = dict[str, str | None]


class _Surroundings(NamedTuple):
    link: LexborNode | None
    figure: LexborNode | None
    picture: LexborNode | None
    in_noscript: bool


def extract(page: Page, count: Count = ignore, *, settings: ExtractSettings | None = None) -> list[FoundImage]:
    """Return the images of a page that have at least one text, in document order, `og:image` last.

    Args:
        page: the document; its charset is resolved here.
        count: receives `IMAGES` for each image element, and one of `IMAGE_REASONS` for each without a new entry.
        settings: rules; None for the defaults.
    """
    document = to_utf8(page.body, page.charset, url=page.url, count=count)
    tree = LexborHTMLParser(document, options=LexborDocumentOptions.WO_EVENTS)
    nodes = _Nodes(tree)
    settings = settings or _DEFAULTS
    base = document_base(page.url, _base_href(nodes))
    images = PageImages(base, count, settings)
    extractor = _Extractor(images, count, settings)
    for node in nodes.images:
        extractor.add_element(node)
    images.add_open_graph(map(_meta, nodes.metas))
    return images.found(choose_license(base, map(_href_and_rel, nodes.license_links)), _title(nodes))


class _Nodes:
    """The relevant elements of a page, found in one pass over the tree, in document order."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.images: list[LexborNode] = []
        self.metas: list[LexborNode] = []
        self.bases: list[LexborNode] = []
        self.titles: list[LexborNode] = []
        self.license_links: list[LexborNode] = []
        lists = {
            "img": self.images, "amp-img": self.images, "meta": self.metas, "base": self.bases, "title": self.titles,
        }  # fmt: skip
        for node in tree.css(_SELECTOR):
            lists.get(node.tag or "", self.license_links).append(node)


class _Extractor:
    def __init__(self, images: PageImages, count: Count, settings: ExtractSettings) -> None:
        self._images = images
        self._count = count
        self._settings = settings
        self._captions: dict[int, str] = {}  # by node: figures and links may contain several images

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
        self._images.add(reference, texts)

    def _texts(self, attributes: _Attributes, around: _Surroundings) -> Texts:
        texts: Texts = []
        for source in (ALT, TITLE, ARIA_LABEL):
            value = attributes.get(source)
            if value:
                append_text(texts, source, value)
        if around.figure is not None:
            append_text(texts, FIGCAPTION, self._caption(around.figure, _figure_caption))
        if around.link is not None:
            append_text(texts, LINK, self._caption(around.link, _link_text))
            append_text(texts, LINK, around.link.attributes.get("title"))
        return texts

    def _caption(self, node: LexborNode, read: Callable[[LexborNode], str]) -> str:
        key = node.mem_id
        caption = self._captions.get(key)
        if caption is None:
            caption = self._captions[key] = read(node)
        return caption

    def _reference(self, attributes: _Attributes, around: _Surroundings) -> Reference | str:
        """Return the best source of an image element, or the reason why it has none."""
        if around.picture is not None or not _BETTER_THAN_SRC.isdisjoint(attributes):
            better = self._better_than_src(attributes, around)
            if better is not None:
                return better
        src = (attributes.get("src") or "").strip()
        if not src:
            return NO_URL
        if is_data(src):
            return DATA_URI
        return Reference(src, NOSCRIPT if around.in_noscript else SRC)

    def _better_than_src(self, attributes: _Attributes, around: _Surroundings) -> Reference | None:
        candidates: dict[Candidate, str] = {}  # of equal candidates, the first counts
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
                return Reference(best.url, NOSCRIPT if around.in_noscript else source)
        for name in _LAZY_SRC:
            value = attributes.get(name)
            if value and _is_usable(value) and ("/" in value or "." in value):
                return Reference(value, LAZY)
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
    """Return the caption of a figure with one image; a gallery's caption does not describe a single image."""
    caption = figure.css_first("figcaption")
    if caption is None:
        return ""
    _, images = _text_and_images(figure)
    return _text_and_images(caption)[0] if images <= 1 else ""


def _link_text(link: LexborNode) -> str:
    """Return the text of a link that contains one image."""
    first = link.child
    if first is not None and first.next is None and first.tag in _IMAGE_TAGS:
        return ""  # most links around an image contain nothing else
    text, images = _text_and_images(link)
    return text if images <= 1 else ""


def _text_and_images(node: LexborNode) -> tuple[str, int]:
    """Return the visible text below a node and the number of images, without `<noscript>` copies of lazy images."""
    parts = []
    images = 0
    length = 0
    stack = [node.child]
    while stack and length < MAX_TEXT:
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


def _is_usable(reference: str) -> bool:
    if is_data(reference) or reference[:1] in ("{", "[", "#"):
        return False
    stem = reference.rpartition("/")[2].partition("?")[0].partition(".")[0].lower()
    return not is_placeholder_name(stem)


def _title(nodes: _Nodes) -> str:
    return nodes.titles[0].text(strip=True)[:MAX_TITLE] if nodes.titles else ""


def _base_href(nodes: _Nodes) -> str | None:
    hrefs = (node.attributes.get("href") for node in nodes.bases)
    return next((href for href in hrefs if href is not None), None)


def _meta(node: LexborNode) -> tuple[str, str]:
    attributes = node.attributes
    return attributes.get("property") or attributes.get("name") or "", attributes.get("content") or ""


def _href_and_rel(node: LexborNode) -> tuple[str, str]:
    attributes = node.attributes
    return attributes.get("href") or "", attributes.get("rel") or ""
