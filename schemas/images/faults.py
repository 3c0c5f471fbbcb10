"""Name what can be wrong with an image file, and the budgets beyond which a file is refused."""

import enum

MAX_PARTS = 20_000
"""Segments, blocks or chunks of metadata that are stepped over one by one; real files have fewer than a hundred."""
MAX_PROFILE_BYTES = 4 << 20
"""Colour profiles beyond this size are ignored; those of printing presses have 0.5 to 3 MB."""


class ImageFault(enum.StrEnum):
    """What is wrong with an image file."""

    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_SCANS = "too_many_scans"
    TOO_MANY_PARTS = "too_many_parts"


class ImageFileError(OSError):
    """An image file whose picture cannot be read.

    An `OSError`, as Pillow's own errors about broken files are.
    """

    def __init__(self, fault: ImageFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
