"""Decide from declared size and file name which images of a page cannot be training images."""

import re
from urllib.parse import unquote

from pydantic import Field

from openwit.pipeline.common.reasons import Reason
from openwit.schemas.common.settings import Settings

TRACKING_PIXEL = Reason("tracking_pixel", "an image that counts visitors")
ICON = Reason("icon", "an icon or a button, by its name or size")
PLACEHOLDER = Reason("placeholder", "a stand-in for an image loaded later")
SVG = Reason("svg", "a vector drawing")

_LEADING_NUMBER = re.compile(r"\s*(\d{1,5})(?:\.\d{1,9})?\s*(?:px)?\s*$", re.IGNORECASE)
_STYLE_SIDE = re.compile(
    r"(?<![-\w])(width|height)\s*:\s*(\d{1,5})(?:\.\d{1,9})?(?:px)?\s*(?:!important)?\s*(?:;|$)", re.IGNORECASE
)
_NAME_PARTS = re.compile(r"[^a-z0-9]+")
_ICON_PARTS = frozenset({"favicon", "favicons", "sprite", "sprites", "emoji", "emoticon", "smiley"})
_PLACEHOLDER_PARTS = frozenset(
    {"blank", "spacer", "placeholder", "transparent", "1x1", "pixel", "lazyload", "clear", "dummy", "spaceball"}
)
_PLACEHOLDER_STEMS = frozenset({"loading", "loader", "lazy", "trans", "empty", "dot", "px", "grey", "gray", "space"})
# "emoji-pillow-on-a-sofa.jpg" is a photo.
_PHOTO_EXTENSIONS = frozenset({"jpg", "jpeg", "webp", "avif"})
_MOST_PARTS = 3
_SUSPECT = re.compile(
    "|".join((*sorted(_ICON_PARTS | _PLACEHOLDER_PARTS | _PLACEHOLDER_STEMS), r"\.svgz?$", r"\.ico$"))
)


class ImageRules(Settings):
    """Rules that drop images of a page before anything is downloaded."""

    tracking_pixel_side: int = Field(
        2, ge=0, description="drop images with a declared width or height up to this many pixels"
    )
    icon_side: int = Field(
        32, ge=0, description="drop images whose larger declared side is below this many pixels; 0 keeps all sizes"
    )
    drop_icons: bool = Field(True, description="drop favicons, sprites and emoji by file name")
    drop_svg: bool = Field(True, description="drop .svg and .ico files, which are never photos")


def declared_sides(width: str | None, height: str | None, style: str | None) -> tuple[int | None, int | None]:
    """Return width and height in CSS pixels as declared by the attributes or the inline style, each possibly None."""
    sides = {"width": _pixels(width), "height": _pixels(height)}
    if style and ("width" in style or "height" in style):
        for name, value in _STYLE_SIDE.findall(style):
            sides[name.lower()] = int(value)
    return sides["width"], sides["height"]


def size_reason(width: int | None, height: int | None, rules: ImageRules) -> str | None:
    """Return the drop reason for an image of this declared size, or None."""
    sides = [side for side in (width, height) if side is not None]
    if not sides:
        return None
    # Lazy loaders and collapsing layouts declare 0 to reserve no space: it is ignored.
    if any(0 < side <= rules.tracking_pixel_side for side in sides):
        return TRACKING_PIXEL
    return ICON if 0 < max(sides) < rules.icon_side else None


def name_reason(url: str, rules: ImageRules) -> str | None:
    """Return the drop reason for an image with this file name, or None."""
    name = url.partition("?")[0].rpartition("/")[2].lower()
    if _SUSPECT.search(name) is None:  # nearly all
        return None
    stem, dot, extension = unquote(name).rpartition(".")
    if not dot:
        stem, extension = extension, ""
    if rules.drop_svg and extension in ("svg", "svgz"):
        return SVG
    if rules.drop_icons and extension == "ico":
        return ICON
    if is_placeholder_name(stem) or (extension == "gif" and not _PLACEHOLDER_PARTS.isdisjoint(_parts(stem))):
        return PLACEHOLDER
    if rules.drop_icons and extension not in _PHOTO_EXTENSIONS and not _ICON_PARTS.isdisjoint(_parts(stem)):
        return ICON
    return None


def is_placeholder_name(stem: str) -> bool:
    """Return whether a file name is that of a placeholder shown until the image is loaded.

    Only short names: `blank.gif`, `lazy-placeholder.png`, but not `point-blank-movie-poster.jpg`.
    """
    if _SUSPECT.search(stem) is None:
        return False
    if stem in _PLACEHOLDER_STEMS:
        return True
    parts = _parts(stem)
    return len(parts) <= _MOST_PARTS and not _PLACEHOLDER_PARTS.isdisjoint(parts)


def _parts(stem: str) -> list[str]:
    return [part for part in _NAME_PARTS.split(stem) if part]


def _pixels(value: str | None) -> int | None:
    if not value:
        return None
    found = _LEADING_NUMBER.match(value)
    return int(found.group(1)) if found else None
