"""Decide from declared size and file name which images of a page cannot be training images."""

import functools
import itertools
import re
from typing import NamedTuple
from urllib.parse import unquote

from pydantic import Field

from openwit.pipeline.common.reasons import Reason
from openwit.schemas.common.settings import Settings

TRACKING_PIXEL = Reason("tracking_pixel", "an image that counts visitors")
ICON = Reason("icon", "an icon or a button, by its name or size")
PLACEHOLDER = Reason("placeholder", "a stand-in for an image loaded later")
SVG = Reason("svg", "a vector drawing")

_LEADING_NUMBER = re.compile(r"(\d{1,5})(?:\.\d{1,9})?\s*(?:px)?", re.IGNORECASE)
_MOST_DIGITS = 5
_STYLE_SIDE = re.compile(r"(?<![-\w])(width|height)\s{0,9}:\s{0,9}([^;!]{1,30})")
_MAX_STYLE = 2_000
_NAME_PARTS = re.compile(r"[^a-z0-9]+")
_ICON_PARTS = frozenset({"favicon", "favicons", "sprite", "sprites", "emoji", "emoticon", "smiley"})
_PLACEHOLDER_PARTS = frozenset(
    {"blank", "spacer", "placeholder", "transparent", "1x1", "pixel", "lazyload", "clear", "dummy", "spaceball"}
)
_PLACEHOLDER_STEMS = frozenset({"loading", "loader", "lazy", "trans", "empty", "dot", "px", "grey", "gray", "space"})
# They name no thing that is photographed.
_STRONG_PARTS = frozenset({"placeholder", "lazyload", "spaceball", "1x1"})
_BLANK_PARTS = _STRONG_PARTS | {"transparent", "blank", "spacer"}
# Words that make no thing of a placeholder's name: `image-placeholder-400x300.png`.
_FILLER = re.compile(r"\d+|\d+x\d+|image|img|picture|photo|bg|default|white|black|gif|png|the|load|small|large|square")
# "emoji-pillow-on-a-sofa.jpg" is a photo.
_PHOTO_EXTENSIONS = frozenset({"jpg", "jpeg", "webp", "avif"})
# A placeholder has a short name.
_MOST_PARTS = 3
_RATIOS = frozenset({(16, 9), (16, 10), (4, 3), (3, 2), (5, 4), (21, 9), (5, 3), (7, 5), (18, 9), (8, 5), (6, 4)})
_RATIO_LAYOUTS = frozenset({"responsive", "fill", "intrinsic", "flex-item"})


def _any_of(words: frozenset[str]) -> str:
    """Return a pattern that finds any of some words: grouped by their first letter, which searches faster."""
    shortest = sorted(word for word in words if not any(other in word for other in words - {word}))
    groups = itertools.groupby(shortest, key=lambda word: word[0])
    return "|".join(f"{first}(?:{'|'.join(word[1:] for word in group)})" for first, group in groups)


_SUSPECT = re.compile(_any_of(_ICON_PARTS | _PLACEHOLDER_PARTS | _PLACEHOLDER_STEMS) + r"|\.(?:svgz?|ico)$")


class Evidence(NamedTuple):
    """What speaks against a word in an image's file name.

    Attributes:
        specific_text: a text says what the image shows.
        large: the page declares a large size, or a large `srcset` width.
    """

    specific_text: bool = False
    large: bool = False


_NO_EVIDENCE = Evidence()


class ImageRules(Settings):
    """Rules that drop images of a page before anything is downloaded."""

    tracking_pixel_side: int = Field(
        2, ge=0, le=65_536, description="drop images whose declared sides are all up to this many pixels"
    )
    icon_side: int = Field(
        32,
        ge=0,
        le=65_536,
        description="drop images whose larger declared side is below this many pixels; 0 keeps all sizes",
    )
    drop_icons: bool = Field(True, description="drop favicons, sprites and emoji by file name")
    drop_svg: bool = Field(True, description="drop .svg and .ico files, which are never photos")


def declared_sides(width: str | None, height: str | None, style: str | None) -> tuple[int | None, int | None]:
    """Return width and height in CSS pixels as declared by the attributes or the inline style, each possibly None.

    The style outweighs the attribute: with `width:100%` the attribute is only one side of a ratio.
    """
    sides = (_pixels(width) if width else None, _pixels(height) if height else None)
    if not style:
        return sides
    of_style = {name: _pixels(value) for name, value in _STYLE_SIDE.findall(style[:_MAX_STYLE].lower())}
    return of_style.get("width", sides[0]), of_style.get("height", sides[1])


def is_ratio(width: int | None, height: int | None, layout: str | None) -> bool:
    """Return whether declared sides are a ratio and no pixels: `width=16 height=9`, or a responsive layout."""
    if layout and layout.strip().lower() in _RATIO_LAYOUTS:
        return True
    return width is not None and height is not None and (max(width, height), min(width, height)) in _RATIOS


def size_reason(width: int | None, height: int | None, rules: ImageRules) -> str | None:
    """Return the drop reason for an image of this declared size, or None."""
    # Lazy loaders and collapsing layouts declare 0 to reserve no space: it is ignored.
    sides = [side for side in (width, height) if side]
    if not sides:
        return None
    largest = max(sides)
    if largest <= rules.tracking_pixel_side:
        return TRACKING_PIXEL
    return ICON if largest < rules.icon_side else None


def name_reason(url: str, rules: ImageRules, evidence: Evidence = _NO_EVIDENCE) -> str | None:
    """Return the drop reason for an image with this file name, or None.

    A name that is a placeholder's as a whole (`pixel.gif`) decides; a word in it (`pixel`) only where nothing speaks
    against it: a photo's extension, a specific text, a large size.
    """
    name = _file_name(url)
    if not _is_suspect(name):  # nearly all
        return None
    stem, extension = _split_name(name)
    if rules.drop_svg and extension in ("svg", "svgz"):
        return SVG
    if rules.drop_icons and extension == "ico":
        return ICON
    parts = _parts(stem)
    if _is_placeholder(stem, parts):
        return PLACEHOLDER
    if extension == "gif" and not _BLANK_PARTS.isdisjoint(parts):
        return PLACEHOLDER  # `index-transparent_h-313_w-466.gif` stands for a photo of that size and that text
    if extension in _PHOTO_EXTENSIONS or evidence.large:
        return None
    is_short = len(parts) <= _MOST_PARTS or extension == "gif"
    if is_short and not evidence.specific_text and not _PLACEHOLDER_PARTS.isdisjoint(parts):
        return PLACEHOLDER
    if not rules.drop_icons or _ICON_PARTS.isdisjoint(parts):
        return None
    is_thing = evidence.specific_text and _ICON_PARTS.intersection(parts) == {"sprite"}
    return None if is_thing else ICON


def is_placeholder_url(reference: str) -> bool:
    """Return whether the file name of a reference is that of a placeholder shown until the image is loaded.

    As a whole (`blank.gif`, `lazy-placeholder.png`), or by a word in the short name of a file that is no photo.
    """
    name = _file_name(reference)
    if not _is_suspect(name):
        return False
    stem, extension = _split_name(name)
    parts = _parts(stem)
    if _is_placeholder(stem, parts):
        return True
    return extension == "gif" and not _BLANK_PARTS.isdisjoint(parts)


def _file_name(url: str) -> str:
    if "#" in url or "?" in url:
        url = url.partition("#")[0].partition("?")[0]
    return url[url.rfind("/") + 1 :].lower()


@functools.lru_cache(maxsize=512)
def _is_suspect(name: str) -> bool:
    """Return whether a file name may be one of those looked for; asked of the reference, and again of its URL."""
    return _SUSPECT.search(name) is not None


def _is_placeholder(stem: str, parts: list[str]) -> bool:
    """Return whether a file name as a whole is that of a placeholder."""
    if stem in _PLACEHOLDER_STEMS:
        return True
    if len(parts) <= _MOST_PARTS and not _STRONG_PARTS.isdisjoint(parts):
        return True
    words = [part for part in parts if _FILLER.fullmatch(part) is None or part == "1x1"]
    return bool(words) and all(part in _PLACEHOLDER_PARTS or part in _PLACEHOLDER_STEMS for part in words)


def _split_name(name: str) -> tuple[str, str]:
    stem, dot, extension = unquote(name).rpartition(".")
    return (stem, extension) if dot else (extension, "")


def _parts(stem: str) -> list[str]:
    return [part for part in _NAME_PARTS.split(stem) if part]


def _pixels(value: str) -> int | None:
    if value.isdecimal() and len(value) <= _MOST_DIGITS:  # most
        return int(value)
    found = _LEADING_NUMBER.fullmatch(value[:_MAX_STYLE].strip())
    return int(found.group(1)) if found else None
