"""Read EXIF data as img2dataset's `extract_exif` does: with exifread, as a JSON object of texts."""

import importlib
import importlib.util
import io
import json
import logging
from functools import lru_cache
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.images.sniff import sniff_format

_FORMATS = frozenset(("JPEG", "PNG", "WEBP", "TIFF"))
_MOST_READS = 20_000
"""Of exifread, which reads value by value: cameras write a few hundred, hostile files claim millions."""
_MOST_BYTES = 256 << 10
"""Of the JSON: more is no description of a picture."""


def check_exif() -> None:
    """Check that EXIF data can be read here.

    Raises:
        RecipeError: exifread is not installed.
    """
    if importlib.util.find_spec("exifread") is None:
        raise RecipeError("fetch.image.exif needs the package exifread: pip install 'openwit[exif]'")


def exif_json(body: bytes) -> str | None:
    """Return the EXIF data of a file; None if it has none, or none that can be read.

    Args:
        body: the file; others than JPEG, PNG, WebP and TIFF have none for us.
    """
    if sniff_format(body) not in _FORMATS:
        return None
    try:
        tags = _exifread().process_file(_Limited(body), details=False)
        # Its texts hold what the file holds: surrogates and control characters are escaped.
        found = {str(name): str(value).strip() for name, value in tags.items() if value is not None}
        text = json.dumps({name: found[name] for name in sorted(found)})
    except Exception:  # it raises anything on damaged data
        return None
    return text if found and len(text) <= _MOST_BYTES else None


class _Limited(io.BytesIO):
    """A file that can be read a limited number of times."""

    _left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """See the class.

        Raises:
            ValueError: it has been read too often.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many values")
        return super().read(size)


@lru_cache
def _exifread() -> Any:
    logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it logs a line for each file without EXIF data
    return importlib.import_module("exifread")
