"""Drop file names in place of a text."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict, in_title
from openwit.pipeline.text.filters.boilerplate import is_boilerplate
from openwit.pipeline.text.settings import TextFilterSettings

FILE_NAME = Reason("file_name", "the name of a file")

_FILE_EXTENSIONS = (
    "jpe?g|jpg_large|png|gif|webp|bmp|tiff?|svg|avif|heic|heif|ico|psd|ai|eps|raw|cr2|nef|arw|dng|"
    "pdf|mp4|mov|avi|webm|docx?|pptx?|html?|php|aspx?"
)
_WITH_EXTENSION = re.compile(rf"[^\s/\\][^/\\\n]{{0,200}}\.(?:{_FILE_EXTENSIONS})", re.IGNORECASE)
_FILE_SIZE = re.compile(r"\s*\(\d+(?:[.,]\d+)? ?[KMG]i?B\)$")
_CAMERA_NAME = re.compile(
    r"(?:img|image|dsc[nf]?|pict?|picture|photo|foto|pxl|mvi|vid|wp|sam|gopr|dji|hpim|cimg|sdc|mg|scan|scanned|"
    r"screen ?shot|screencap|capture|unbenannt|untitled|sans titre|sin t[ií]tulo|whatsapp image|fb img|snapchat|"
    r"received|(?:p|r|l|s)(?=[-_ ]?\d{4}))[-_ ]?\(?\d(?:[\d\-_ .:()x]|at|um|à|[ap]m|copy|kopie|edited)*",
    re.IGNORECASE,
)
_HEX_NAME = re.compile(
    r"(?=.*\d)[0-9a-f]{12,}(?:[-_][0-9a-z]+)*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
_UNDERSCORED = re.compile(r"(?=.*\d)(?=.*[_])[\w.\-]+")
# "Tom Kha Soup.png": how wikis name a picture after what it shows
_NAMED_AFTER = re.compile(r"(?:[^\W\d_]{2,}'?s? )*[^\W\d_]{2,}")
_SHORT_NAME = re.compile(r"[A-Z] ?\d{1,4}")
_DIGIT = re.compile(r"\d")


def file_name_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops file names: with an extension, in the style of cameras and phones, or a hash.

    A product's name of a letter and digits (S 500, P1000) is kept where the title of the page holds it.
    """
    if not settings.file_names:
        return None

    def check(text: str, context: TextContext) -> Verdict:
        if not is_file_name(text) or (_SHORT_NAME.fullmatch(text) and in_title(text, context)):
            return True
        return False, FILE_NAME

    return check


def is_file_name(text: str) -> bool:
    """Return whether a text is a file name and nothing else."""
    if text.endswith("B)"):
        text = _FILE_SIZE.sub("", text)
    if "." in text[-11:] and _WITH_EXTENSION.fullmatch(text):
        # "Diagram of a cell.svg" has words; "diagram-of-a-cell.svg" and "DSC 0001.jpg" are names
        stem = text[: text.rindex(".")]
        if stem.istitle() and _NAMED_AFTER.fullmatch(stem) and not is_boilerplate(stem):
            return False
        return text.count(" ") < 3 or any(mark in text for mark in "_\\")
    if _DIGIT.search(text) is None:
        return False
    # Of the three only a camera's name may hold spaces.
    patterns = (_CAMERA_NAME,) if " " in text else (_CAMERA_NAME, _HEX_NAME, _UNDERSCORED)
    return any(pattern.fullmatch(text) is not None for pattern in patterns)
