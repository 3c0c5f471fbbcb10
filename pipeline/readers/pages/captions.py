"""Find the texts around an image of a page: its figure's caption, its link's text, and captions known by their class.

A caption describes an image only where it is the only one of its figure, link or wrapper. The nodes that are visited
for it are limited for each caption and for the page, so that a page costs time in proportion to its size.
"""

import re
from collections.abc import Callable

from selectolax.lexbor import LexborNode

from openwit.pipeline.common.counting import Count
from openwit.pipeline.readers.pages.page_images import MAX_TEXT
from openwit.pipeline.readers.pages.surroundings import tag_id

IMAGE_TAGS = ("img", "amp-img")
CAPTION_SELECTOR = '[class*="caption" i], .gallerytext'

MAX_CAPTION_NODES = 2_000
"""Nodes visited for one caption."""

MAX_WRAPPER_NODES = 200
"""Nodes visited to find the image that a caption's class belongs to."""

MAX_PAGE_NODES = 200_000
"""Nodes visited for all captions of a page."""

CAPTION_TOO_FAR = "captions_too_far"
"""Note: captions that were not looked for to the end, because of one of these limits."""

_IMG, _FIGCAPTION = map(tag_id, ("img", "figcaption"))
_SILENT = frozenset(map(tag_id, ("script", "style", "noscript", "template")))
_LAST_KNOWN = 4096  # the numbers of tags that HTML does not have are addresses
_WRAPPER_LEVELS = 3
_TITLED_IMAGES = 4
_CLASSES = 1_000  # code points of a class attribute
_CAPTION_CLASS = re.compile(r"(.*?)[-_]*(?:caption|cutline|gallerytext)s?(?:[-_]*(?:text|txt|dd|body|content|inner))?")
# A wrapper's class, a state of it, or the caption of something else.
_NOT_CAPTION = re.compile(r"(?:^|[-_])(?:has|no|with|without|hide|show|toggle|table|video|audio|closed)$")


class Captions:
    """Find the captions of one page; each figure, link and wrapper is read once.

    Args:
        count: receives `CAPTION_TOO_FAR`.
        has_figcaption: whether the page has a `figcaption`; looked up at the first figure with an image.

    Attributes:
        visits: nodes visited so far.
    """

    def __init__(self, count: Count, *, has_figcaption: Callable[[], bool]) -> None:
        self.visits = 0
        self._ask_figcaption = has_figcaption
        self._has_figcaption: bool | None = None
        self._count = count
        self._figures: dict[int, str] = {}
        self._links: dict[int, tuple[str, str]] = {}
        self._titled: dict[int, int] = {}
        self._by_class: dict[int, str] = {}  # by image

    def add_by_class(self, node: LexborNode) -> None:
        """Take an element with a caption's class as the caption of the only image in its nearest wrapper with one."""
        if not is_caption_class(node.attributes.get("class")):
            return
        text, images, _, _ = self._read(node)
        if images or not text.strip():
            return
        wrapper = node.parent
        for _ in range(_WRAPPER_LEVELS):
            if wrapper is None or wrapper.tag in ("body", "html"):
                return
            _, images, image, _ = self._read(wrapper, text=False, most=MAX_WRAPPER_NODES)
            if images == 1 and image is not None:
                self._by_class.setdefault(image.mem_id, text)
            if images:
                return
            wrapper = wrapper.parent

    def by_class(self, image: LexborNode) -> str:
        """Return the caption recognised by its class, or an empty text."""
        return self._by_class.get(image.mem_id, "") if self._by_class else ""

    def of_figure(self, figure: LexborNode) -> str:
        """Return the caption of a figure with one image, or an empty text."""
        if self._has_figcaption is None:
            self._has_figcaption = self._ask_figcaption()
        if not self._has_figcaption:
            return ""
        key = figure.mem_id
        caption = self._figures.get(key)
        if caption is None:
            _, images, _, node = self._read(figure, text=False)
            caption = self._read(node)[0] if node is not None and images <= 1 else ""
            self._figures[key] = caption
        return caption

    def of_link(self, link: LexborNode) -> tuple[str, str]:
        """Return the text of a link around one image, or an empty text, and the link's title for its first images."""
        key = link.mem_id
        texts = self._links.get(key)
        if texts is None:
            if _has_only_image(link):
                text, images = "", 1
            else:
                text, images, _, _ = self._read(link)
            texts = (text if images <= 1 else "", (link.attributes.get("title") or "")[:MAX_TEXT])
            self._links[key] = texts
        titled = self._titled[key] = self._titled.get(key, 0) + 1
        return texts if titled <= _TITLED_IMAGES else (texts[0], "")

    def _read(
        self, node: LexborNode, *, text: bool = True, most: int = MAX_CAPTION_NODES
    ) -> tuple[str, int, LexborNode | None, LexborNode | None]:
        """Return the visible text below a node, the images (2: two or more), the first one, and its `figcaption`.

        The `<noscript>` copies of lazy images are passed over. Where a limit ends the search, 2 images are assumed.
        """
        parts: list[str] = []
        images = length = 0
        image = caption = None
        stack = [node.child]
        end = self.visits + min(most, MAX_PAGE_NODES - self.visits)
        while stack and length < MAX_TEXT:
            child = stack.pop()
            while child is not None:
                if self.visits >= end:
                    self._count(CAPTION_TOO_FAR)
                    return "", 2, None, None
                self.visits += 1
                tag = child.tag_id
                if tag in _SILENT:
                    pass
                elif child.is_text_node:
                    if text:
                        words = child.text_content or ""
                        parts.append(words)
                        length += len(words)
                elif tag == _IMG or (tag > _LAST_KNOWN and child.tag in IMAGE_TAGS):
                    images += 1
                    image = image or child
                    if images > 1:
                        return "", 2, None, None
                elif child.is_element_node:
                    if tag == _FIGCAPTION:
                        caption = caption or child
                    parts.append(" ")  # blocks and breaks separate words
                    stack.append(child.next)
                    child = child.child
                    continue
                child = child.next
            parts.append(" ")
        return "".join(parts), images, image, caption


def _has_only_image(link: LexborNode) -> bool:
    """Return whether a link contains an image between white space and nothing else, as most links around images do."""
    node = link.child
    if node is not None and node.is_text_node:
        if (node.text_content or "").strip():
            return False
        node = node.next
    if node is None or (node.tag_id != _IMG and node.tag not in IMAGE_TAGS):
        return False
    node = node.next
    return node is None or (node.is_text_node and node.next is None and not (node.text_content or "").strip())


def is_caption_class(classes: str | None) -> bool:
    """Return whether a class is that of an image's caption: `wp-caption-text`, `thumbcaption`, `image__caption` …"""
    for token in (classes or "")[:_CLASSES].lower().split():
        found = _CAPTION_CLASS.fullmatch(token)
        if found is not None and token != "wp-caption" and _NOT_CAPTION.search(found.group(1)) is None:
            return True
    return False
