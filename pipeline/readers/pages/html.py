"""Extract the images of an HTML page with their texts.

One `<img>` gives one URL (its best source) and all texts that describe it. With only `src` most images would be
missed: the others are in relative references, lazy loading, `srcset` and `<noscript>`.
"""

import re
from collections.abc import Callable, Sequence

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
from openwit.pipeline.readers.pages.surroundings import Ancestors, tag_id

__all__ = ["IMAGES", "IMAGE_REASONS", "ExtractSettings", "FoundImage", "extract"]

_LAZY_SRC = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-lsrc", "data-original-src", "data-img-src",
    "data-hi-res-src", "data-hires", "data-echo", "data-src-large", "data-image-src", "data-actualsrc",
    "data-defer-src",
)  # fmt: skip
_LAZY_SRCSET = ("data-srcset", "data-lazy-srcset", "data-original-set", "data-src-set")
_SRCSETS = ("srcset", *_LAZY_SRCSET)
_SOURCE = tag_id("source")
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
_SELECTOR = 'img, meta, base, [rel~="license"], a[href*="creativecommons.org/"], ' + CAPTION_SELECTOR
_AMP = "amp-img"
_NO_URL_STARTS = ("{", "[", "#")
_MAX_SOURCES = 50  # of a `<picture>`
_MAX_REFERENCE = 8192
_MAX_SRCSET = 65_536

_DEFAULTS = ExtractSettings()

_Attributes = dict[str, str | None]


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
    return images.found(choose_license(base, map(_href_and_rel, nodes.license_links)), _title(tree))


class _Nodes:
    """The relevant elements of a page, found in one pass over the tree, in document order."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.images: list[LexborNode] = []
        self.metas: list[LexborNode] = []
        self.bases: list[LexborNode] = []
        self.license_links: list[LexborNode] = []
        self.captions: list[LexborNode] = []
        lists = {"img": self.images, _AMP: self.images, "meta": self.metas, "base": self.bases}
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
        self._ancestors = Ancestors()
        self._pictures: dict[int, list[Candidate]] = {}

    def add_element(self, node: LexborNode) -> None:
        if not self._images.admit():
            return
        attributes = node.attributes
        link, figure, picture, noscript = self._ancestors.around(node)
        texts = self._texts(node, attributes, link, figure)
        if not texts:
            self._images.drop(NO_TEXT)
            return
        found = self._reference(attributes, picture)
        reference = found if isinstance(found, Reference) else None
        if reference is not None and noscript is not None:
            reference = reference._replace(source=NOSCRIPT)
        get = attributes.get
        width, height = declared_sides(get("width"), get("height"), get("style"))
        reason = None
        if width is not None or height is not None:
            if is_ratio(width, height, get("layout")) or (reference is not None and reference.is_wide):
                width = height = None
            else:
                reason = size_reason(width, height, self._settings)
        if reason is not None:
            self._images.drop(reason, reference.url if reference is not None else (get("src") or ""), texts)
        elif reference is not None:
            self._images.add(reference, texts, largest_side=max(width or 0, height or 0))
        elif isinstance(found, str):
            self._images.drop(found, get("src") or "", texts)

    def _texts(
        self, node: LexborNode, attributes: _Attributes, link: LexborNode | None, figure: LexborNode | None
    ) -> Texts:
        texts: Texts = []
        for source in (ALT, TITLE, ARIA_LABEL):
            value = attributes.get(source)
            if value:
                append_text(texts, source, value)
        caption = (figure is not None and self._captions.of_figure(figure)) or self._captions.by_class(node)
        if caption:
            append_text(texts, FIGCAPTION, caption)
        if link is not None:
            for text in self._captions.of_link(link):
                if text:
                    append_text(texts, LINK, text)
        return texts

    def _reference(self, attributes: _Attributes, picture: LexborNode | None) -> Reference | str:
        """Return the best source of an image element, or the reason why it has none."""
        found = None
        if picture is not None or not _BETTER_THAN_SRC.isdisjoint(attributes):
            found = self._better_than_src(attributes, picture)
        if found is not None:
            return found
        src = (attributes.get("src") or "").strip()
        if not (src and _is_usable(src)):
            found = self._invented(attributes)
        if found is not None:
            return found
        if not src:
            return NO_URL
        return DATA_URI if is_data(src) else Reference(src, SRC)

    def _better_than_src(self, attributes: _Attributes, picture: LexborNode | None) -> Reference | None:
        sets = [(LAZY, _candidates(attributes[name])) for name in _LAZY_SRCSET if name in attributes]
        sets.append((SRCSET, _candidates(attributes.get("srcset"))))
        if picture is not None:
            sets.append((PICTURE, self._of_picture(picture)))
        best = _best(sets, self._settings)
        if best is not None:
            return best
        for name in _LAZY_SRC:
            value = attributes.get(name)
            if value and _is_usable(value) and ("/" in value or "." in value):
                return Reference(value, LAZY)
        return None

    def _of_picture(self, picture: LexborNode) -> list[Candidate]:
        """Return the candidates of the first sources of a `<picture>`, which may contain several images."""
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
                best = _best([(LAZY, _candidates(value))], self._settings)
                if best is not None:
                    return best
            elif len(value) <= _MAX_REFERENCE and _is_usable(value):
                is_url = _IMAGE_URL.fullmatch(value) or (_SAYS_SOURCE.match(name) and _ABSOLUTE.fullmatch(value))
                if is_url:
                    return Reference(value, LAZY)
        return None


def _candidates(value: str | None) -> list[Candidate]:
    return parse_srcset(value[:_MAX_SRCSET]) if value else []


def _best(sets: Sequence[tuple[str, list[Candidate]]], settings: ExtractSettings) -> Reference | None:
    """Return the best usable candidate of several sources; of equal ones, that of the first source."""
    candidates = [candidate for _, found in sets for candidate in found]
    if not candidates:
        return None
    best: Candidate | None = choose(candidates, settings.srcset_width)
    assert best is not None
    if not _is_usable(best.url):  # hardly ever
        ordered = best_first(dict.fromkeys(candidates), settings.srcset_width)
        best = next((candidate for candidate in ordered if _is_usable(candidate.url)), None)
    if best is None:
        return None
    return Reference(best.url, next(source for source, found in sets if best in found), best.size)


def _picture_sets(picture: LexborNode) -> list[str | None]:
    """Return the sets of the first sources of a `<picture>`, which are its children: nested ones have their own."""
    sets: list[str | None] = []
    left = _MAX_SOURCES
    source = picture.child
    while source is not None and left:
        if source.tag_id == _SOURCE:
            left -= 1
            attributes = source.attributes
            if (attributes.get("type") or "").lower() not in _UNREADABLE_TYPES:
                sets += [attributes[name] for name in _SRCSETS if name in attributes]
        source = source.next
    return sets


def _is_usable(reference: str) -> bool:
    if len(reference) > _MAX_REFERENCE or reference[:1] in _NO_URL_STARTS or is_data(reference):
        return False
    return not is_placeholder_url(reference)


def _title(tree: LexborHTMLParser) -> str:
    title = tree.css_first("title")
    return title.text(strip=True)[:MAX_TITLE] if title is not None else ""


def _base_href(nodes: _Nodes) -> str | None:
    hrefs = (node.attributes.get("href") for node in nodes.bases)
    return next((href for href in hrefs if href is not None), None)


def _meta(node: LexborNode) -> tuple[str, str]:
    attributes = node.attributes
    return attributes.get("property") or attributes.get("name") or "", attributes.get("content") or ""


def _href_and_rel(node: LexborNode) -> tuple[str, str]:
    attributes = node.attributes
    return attributes.get("href") or "", attributes.get("rel") or ""
