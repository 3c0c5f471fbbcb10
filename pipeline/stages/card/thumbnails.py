"""Make small pictures for the page, as data URIs: the page loads nothing from elsewhere."""

import base64

from PIL import Image

from openwit.pipeline.images.resize import thumbnail


def picture_uri(image: bytes | None) -> str | None:
    """Return a thumbnail as a JPEG data URI, or None for what cannot be decoded."""
    if image is None:
        return None
    try:
        small = thumbnail(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(small).decode()
