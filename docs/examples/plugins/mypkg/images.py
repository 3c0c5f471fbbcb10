"""An image filter: return True to keep an image, False or (False, reason) to drop it."""

from PIL import Image, ImageStat

from openwit.pipeline.images.filters import ImageContext


def no_dark(image: Image.Image, context: ImageContext, *, darkest: float = 40) -> bool:
    """Drop images whose mean brightness is below `darkest` (0 to 255)."""
    return ImageStat.Stat(image.convert("L")).mean[0] >= darkest
