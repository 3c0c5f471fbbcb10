"""Extract the images of an HTML page with their texts.

One `<img>` gives one URL (its best source) and all texts that describe it. With only `src` most images would be
missed: the others are in relative references, lazy loading, `srcset` and `<noscript>`.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.readers.crawl.warc import Page
from openwit.pipeline.readers.pages.captions import CAPTION_SELECTOR, Captions
from openwit.pipeline.readers.pages.charset import to_utf8
from openwit.pipeline.readers.pages.image_rules import declared_sides, is_placeholder_url, is_ratio, size_reason
from openwit.pipeline.readers.pages.markup_limits import limit_markup
from openwit.pipeline.readers.pages.page_images import (
    ALT,
    ARIA_LABEL,
    DATA_URI,
    FIGCAPTION,
    IMAGE_REASONS,
    IMAGES,
    LAZY,
    LINK,
    MAX_TITLE,
    NO_TEXT,
    NO_URL,
    NOSCRIPT,
    PICTURE,
    SRC,
    SRCSET,
    TAGS_LEFT_OUT,
    TITLE,
    DroppedImage,
    ExtractSettings,
    FoundImage,
    PageImages,
    Reference,
    Texts,
    append_text,
    choose_license,
    document_base,
    ignore_dropped,
    is_data,
)
from openwit.pipeline.readers.pages.srcset import MAX_CANDIDATES, Candidate, best_first, choose, parse_srcset

__all__ = ["IMAGES", "IMAGE_REASONS", "ExtractSettings", "FoundImage", "extract"]

_LAZY_SRC = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-lsrc", "data-original-src", "data-img-src",
    "data-hi-res-src", "data-hires", "data-echo", "data-src-large", "data-image-src", "data-actualsrc",
    "data-defer-src",
)  # fmt: skip
_LAZY_SRCSET = ("data-srcset", "data-lazy-srcset", "data-original-set", "data-src-set")
_BETTER_THAN_SRC = frozenset({"srcset", *_LAZY_SRC, *_LAZY_SRCSET})
# Names of attributes that lazy loaders invent, and values that are an image by their extension.
_LAZY_NAME = re.compile(r"data-|lazy|original|.+src")
_SAYS_SOURCE = re.compile(r"(?!.*(?:link|href|page|title|alt))(?:.*(?:src|lazy|original|full|large|img|image|photo))")
_IMAGE_URL = re.compile(
    r"[^\s{}\[\]]+\.(?:jpe?g|jfif|png|webp|gif|avif|bmp|tiff?)(?:[?#&!@:/][^\s{}\[\]]*)?", re.IGNORECASE
)
_ABSOLUTE = re.compile(r"(?:https?:)?//[^\s{}\[\]]+", re.IGNORECASE)
_SRCSET_VALUE = re.compile(r"\s\d{1,5}(?:\.\d{1,3})?[wx]\s*(?:,|$)")
_UNREADABLE_TYPES = ("image/svg+xml", "image/jxl", "image/heic", "image/heif")
# Each part costs time at each element of a page: what few pages have is looked for where it is needed.
_SELECTOR = 'img, meta, base, title, [rel~="license"], a[href*="creativecommons.org/"], ' + CAPTION_SELECTOR
_AMP = "amp-img"
_MAX_DEPTH = 16  # ancestors looked at around an image
_MAX_SOURCES = 50  # of a `<picture>`
_MAX_REFERENCE = 8192
_MAX_SRCSET = 65_536

_DEFAULTS = ExtractSettings()


def _tag_id(name: str) -> int:
    """Return the parser's number of a tag of HTML, which costs less to read of a node than the name."""
    node = LexborHTMLParser(f"<body><{name}></{name}>").css_first(name)
    assert node is not None
    return node.tag_id


_AROUND_IDS = tuple(map(_tag_id, ("a", "figure", "picture", "noscript", "body")))
_A, _FIGURE, _PICTURE, _NOSCRIPT, _BODY = _AROUND_IDS

_Attributes = dict[str, str | None]


class _Surroundings(NamedTuple):
    link: LexborNode | None
    figure: LexborNode | None
    picture: LexborNode | None
    in_noscript: bool


def extract(
    page: Page,
    count: Count = ignore,
    *,
    settings: ExtractSettings | None = None,
    on_drop: Callable[[DroppedImage], None] = ignore_dropped,
) -> list[FoundImage]:
    """Return the images of a page that have at least one text, in document order, `og:image` last.

    Args:
        page: the document; its charset is resolved here.
        count: receives `IMAGES` for each image element, and one of `IMAGE_REASONS` for each without a new entry.
        settings: rules; None for the defaults.
        on_drop: receives each image that has a text and is dropped.
    """
    document, left_out = limit_markup(to_utf8(page.body, page.charset, url=page.url, count=count))
    if left_out:
        count(TAGS_LEFT_OUT, left_out)
    tree = LexborHTMLParser(document, options=LexborDocumentOptions.WO_EVENTS)
    nodes = _Nodes(tree)
    settings = settings or _DEFAULTS
    base = document_base(page.url, _base_href(nodes))
    images = PageImages(base, count, settings, on_drop)
    captions = Captions(count, has_figcaption=lambda: tree.css_first("figcaption") is not None)
    extractor = _Extractor(images, captions, settings)
    for node in nodes.captions:
        captions.add_by_class(node)
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
        self.captions: list[LexborNode] = []
        lists = {
            "img": self.images, _AMP: self.images, "meta": self.metas, "base": self.bases, "title": self.titles,
        }  # fmt: skip
        for node in tree.css(f"{_AMP}, {_SELECTOR}" if tree.tags(_AMP) else _SELECTOR):
            tag = node.tag or ""
            if tag in lists:
                lists[tag].append(node)
                continue
            if tag == "figcaption":  # it is read with its figure
                continue
            if tag in ("a", "link"):
                self.license_links.append(node)
            self.captions.append(node)


class _Extractor:
    def __init__(self, images: PageImages, captions: Captions, settings: ExtractSettings) -> None:
        self._captions = captions
        self._images = images
        self._settings = settings
        self._pictures: dict[int, list[Candidate]] = {}

    def add_element(self, node: LexborNode) -> None:
        if not self._images.admit():
            return
        attributes = node.attributes
        around = _surroundings(node)
        texts = self._texts(node, attributes, around)
        if not texts:
            self._images.drop(NO_TEXT)
            return
        reference = self._reference(attributes, around)
        get = attributes.get
        sides = declared_sides(get("width"), get("height"), get("style"))
        if is_ratio(*sides, get("layout")) or (isinstance(reference, Reference) and reference.is_wide):
            sides = (None, None)
        reason = size_reason(*sides, self._settings)
        if reason is not None:
            url = reference.url if isinstance(reference, Reference) else (get("src") or "")
            self._images.drop(reason, url, texts)
        elif isinstance(reference, str):
            self._images.drop(reference, get("src") or "", texts)
        else:
            self._images.add(reference, texts, largest_side=max(filter(None, sides), default=0))

    def _texts(self, node: LexborNode, attributes: _Attributes, around: _Surroundings) -> Texts:
        texts: Texts = []
        for source in (ALT, TITLE, ARIA_LABEL):
            value = attributes.get(source)
            if value:
                append_text(texts, source, value)
        caption = self._captions.of_figure(around.figure) if around.figure is not None else ""
        append_text(texts, FIGCAPTION, caption or self._captions.by_class(node))
        if around.link is not None:
            for text in self._captions.of_link(around.link):
                append_text(texts, LINK, text)
        return texts

    def _reference(self, attributes: _Attributes, around: _Surroundings) -> Reference | str:
        """Return the best source of an image element, or the reason why it has none."""
        found = None
        if around.picture is not None or not _BETTER_THAN_SRC.isdisjoint(attributes):
            found = self._better_than_src(attributes, around)
        src = (attributes.get("src") or "").strip()
        if found is None and not (src and _is_usable(src)):
            found = self._invented(attributes)
        if found is not None:
            return found._replace(source=NOSCRIPT) if around.in_noscript else found
        if not src:
            return NO_URL
        if is_data(src):
            return DATA_URI
        return Reference(src, NOSCRIPT if around.in_noscript else SRC)

    def _better_than_src(self, attributes: _Attributes, around: _Surroundings) -> Reference | None:
        candidates: dict[Candidate, str] = {}  # of equal candidates, the first counts
        for name in _LAZY_SRCSET:
            for candidate in _candidates(attributes.get(name)):
                candidates.setdefault(candidate, LAZY)
        for candidate in _candidates(attributes.get("srcset")):
            candidates.setdefault(candidate, SRCSET)
        for candidate in self._of_picture(around.picture):
            candidates.setdefault(candidate, PICTURE)
        best = _best(candidates, self._settings)
        if best is not None:
            return best
        for name in _LAZY_SRC:
            value = attributes.get(name)
            if value and _is_usable(value) and ("/" in value or "." in value):
                return Reference(value, LAZY)
        return None

    def _of_picture(self, picture: LexborNode | None) -> list[Candidate]:
        """Return the candidates of the first sources of a `<picture>`, which may contain several images."""
        if picture is None:
            return []
        found = self._pictures.get(picture.mem_id)
        if found is None:
            sets = _picture_sets(picture)
            found = [candidate for value in sets for candidate in _candidates(value)][:MAX_CANDIDATES]
            self._pictures[picture.mem_id] = found
        return found

    def _invented(self, attributes: _Attributes) -> Reference | None:
        """Return the first value of an invented attribute that is an image's URL, or the best of a `srcset`."""
        for name, value in attributes.items():
            if not value or name in ("src", "srcset") or _LAZY_NAME.match(name) is None:
                continue
            value = value.strip()
            if "srcset" in name or (len(value) <= _MAX_SRCSET and _SRCSET_VALUE.search(value)):
                best = _best(dict.fromkeys(_candidates(value), LAZY), self._settings)
                if best is not None:
                    return best
            elif len(value) <= _MAX_REFERENCE and _is_usable(value):
                is_url = _IMAGE_URL.fullmatch(value) or (_SAYS_SOURCE.match(name) and _ABSOLUTE.fullmatch(value))
                if is_url:
                    return Reference(value, LAZY)
        return None


def _candidates(value: str | None) -> list[Candidate]:
    return parse_srcset(value[:_MAX_SRCSET]) if value else []


def _best(candidates: Mapping[Candidate, str], settings: ExtractSettings) -> Reference | None:
    if not candidates:
        return None
    first = choose(candidates, settings.srcset_width)
    if _is_usable(first.url):  # nearly always
        return Reference(first.url, candidates[first], first.size)
    for best in best_first(candidates, settings.srcset_width):
        if _is_usable(best.url):
            return Reference(best.url, candidates[best], best.size)
    return None


def _surroundings(node: LexborNode) -> _Surroundings:
    link = figure = picture = None
    in_noscript = False
    parent = node.parent
    for _ in range(_MAX_DEPTH):
        if parent is None:
            break
        tag = parent.tag_id
        if tag not in _AROUND_IDS:  # nearly all
            pass
        elif tag == _A:
            link = link or parent
        elif tag == _FIGURE:
            figure = figure or parent
        elif tag == _PICTURE:
            picture = picture or parent
        elif tag == _NOSCRIPT:
            in_noscript = True
        elif tag == _BODY:
            break
        parent = parent.parent
    return _Surroundings(link, figure, picture, in_noscript)


def _picture_sets(picture: LexborNode) -> list[str | None]:
    """Return the sets of the first sources of a `<picture>`, which are its children: nested ones have their own."""
    sets: list[str | None] = []
    left = _MAX_SOURCES
    source = picture.child
    while source is not None and left:
        if source.tag == "source":
            left -= 1
            attributes = source.attributes
            if (attributes.get("type") or "").lower() not in _UNREADABLE_TYPES:
                sets.extend(attributes.get(name) for name in ("srcset", *_LAZY_SRCSET))
        source = source.next
    return sets


def _is_usable(reference: str) -> bool:
    if len(reference) > _MAX_REFERENCE or is_data(reference) or reference[:1] in ("{", "[", "#"):
        return False
    return not is_placeholder_url(reference)


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
