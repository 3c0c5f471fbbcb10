"""Encode pictures in the formats of shards."""

import io

from PIL import Image

from openwit.pipeline.images.settings import ImageFormat, ImageSettings

_LONGEST_SIDE = {ImageFormat.JPG: 65_500, ImageFormat.WEBP: 16_383}


class TooLongError(ValueError):
    """A format has no pictures of this size; the message says so."""


def encoded(image: Image.Image, settings: ImageSettings) -> bytes:
    """Return an RGB image in the format of the settings, without metadata.

    Raises:
        TooLongError: a side has more pixels than the format allows.
    """
    form = settings.format
    longest = _LONGEST_SIDE.get(form)
    if longest is not None and max(image.size) > longest:
        raise TooLongError(f"{image.width} x {image.height}, of at most {longest} in a {form.value} file")
    image.info.clear()  # Pillow would write the source's comment into the output
    out = io.BytesIO()
    if form is ImageFormat.PNG:
        image.save(out, "PNG", compress_level=settings.png_compression)
    elif form is ImageFormat.WEBP:
        image.save(out, "WEBP", quality=settings.quality)
    else:
        image.save(out, "JPEG", quality=settings.quality)
    return out.getvalue()
