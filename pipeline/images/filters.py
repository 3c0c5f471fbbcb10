"""Load your own image filters, named in the recipe by dotted name.

::

    fetch:
      image:
        filters: [mypkg.no_dark, {name: mypkg.no_banner, ratio: 3}]

A filter is called with `(image, context)`: a `PIL.Image.Image`, upright RGB in its final size and before it is encoded
(a copy: changes to it have no effect), and an `ImageContext`. Several threads call it at once. For its return value,
its settings and `setup` see `openwit.pipeline.common.custom_filters`.

A filter's reason is a status like any other: it is counted in the funnel, written to `drops/` and to the log. It is
final, a retry does not download the image again; so it must not be the name of another status.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from PIL import Image

from openwit.pipeline.common.custom_filters import custom_filters
from openwit.pipeline.images.process import ImageCheck, ImageDrop, ImageReason, ServedImage
from openwit.schemas.common.plugins import PluginSettings

IMAGE_FILTERS = "fetch.image.filters"


@dataclass(frozen=True, slots=True)
class ImageContext:
    """The facts of an image besides its pixels.

    Attributes:
        url: its URL, or a name in place of it if an input file holds the bytes.
        texts: the selected texts of the image.
        width: pixels as served, after EXIF orientation; the image itself may be resized already.
        height: pixels as served, after EXIF orientation.
        format: by magic bytes: JPEG, PNG, …
    """

    url: str
    texts: tuple[str, ...]
    width: int
    height: int
    format: str


class ImageFilters:
    """The image filters of a recipe.

    Args:
        plugins: their names and settings.
        taken: statuses that a filter's reason must not be, besides `ImageReason`.

    Raises:
        RecipeError: one cannot be loaded or called.
    """

    def __init__(self, plugins: Sequence[PluginSettings], taken: Collection[str] = ()) -> None:
        self._filters = custom_filters(plugins, key=IMAGE_FILTERS, taken=(*ImageReason, *taken))

    def setup(self) -> None:
        """Prepare the filters in a worker, before the first image."""
        for custom in self._filters:
            custom.setup()

    def check_of(self, url: str, texts: Sequence[str]) -> ImageCheck | None:
        """Return the check for one image; None if there are no filters."""
        if not self._filters:
            return None

        def check(image: Image.Image, served: ServedImage) -> ImageDrop | None:
            context = ImageContext(url, tuple(texts), served.width, served.height, served.format)
            for custom in self._filters:
                reason = custom.drop_reason(image, context, f"the image of {url:.200}")
                if reason is not None:
                    return ImageDrop(reason)
            return None

        return check
