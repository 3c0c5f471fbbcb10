"""Hash evaluation images, so that they can be dropped from the dataset: checksums, and hashes of their variants.

A training set must not hold the images that the model is evaluated on. They are read in pieces::

    pieces = list_pieces(["imagenet-val/", "flickr30k.tar", "coco/*.parquet"])
    tables = [hash_piece(piece, settings, count=count) for piece in pieces]  # in parallel, in any order
    index = EvaluationIndex(pa.concat_tables(tables), max_distance=4)
    nearest = index.lookup(hashes)
"""

from collections.abc import Sequence
from io import BytesIO

import pyarrow as pa
from PIL import Image

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.decontamination.files import (
    DAMAGED_FILE,
    OTHER_FILE,
    TOO_LARGE,
    EvaluationPiece,
    list_pieces,
    read_piece,
)
from openwit.pipeline.decontamination.variants import SAME, WHOLE, grey_of, is_plain, variant_hashes
from openwit.pipeline.images.process import ImageDrop, ImageReason, ProcessedImage, process_image
from openwit.pipeline.images.settings import ImageFormat, ImageSettings, ResizeMode
from openwit.schemas.table import Column, TableSchema

__all__ = [
    "DAMAGED_FILE",
    "EVALUATION_IMAGES",
    "EVALUATION_REASONS",
    "HASHED",
    "IMAGES",
    "OTHER_FILE",
    "PLAIN",
    "TOO_LARGE",
    "EvaluationPiece",
    "hash_piece",
    "list_pieces",
    "read_evaluation_images",
    "relaxed",
]

IMAGES, HASHED = "evaluation_images", "evaluation_images_hashed"
"""Counts: images found, images in the table. The difference is counted by reason."""
EVALUATION_REASONS = tuple(str(reason) for reason in ImageReason)
"""Why an evaluation image is not in the table. `too_small` and `bad_aspect_ratio` do not occur."""
PLAIN = "evaluation_image_is_plain"
"""Note: an image whose hash does not tell it from others; it is recognised by its bytes and pixels only."""

# Beyond any image: the dataset's own limits do not apply to evaluation images.
_ANY_ASPECT = 1e9
_WHOLE = frozenset((ResizeMode.NO, ResizeMode.KEEP_RATIO, ResizeMode.KEEP_RATIO_LARGEST))

EVALUATION_IMAGES = TableSchema(
    "evaluation_images",
    1,
    "Evaluation images, which a dataset must not hold, one row each, with the perceptual hashes of their variants.",
    (
        Column("file", pa.string(), "file of the image, as named in the recipe"),
        Column("member", pa.string(), "its name in a tar, its row in a Parquet file; empty for an image file"),
        Column("sha256", pa.string(), "hex sha256 of its bytes"),
        Column("pixels_hash", pa.string(), "hex xxh3-128 of its pixels as the dataset would hold them"),
        Column(
            "variants", pa.list_(pa.string()), "same | centre_3 | square | wider_6 | same_mirrored …, `same` first"
        ),
        Column("hashes", pa.list_(pa.uint64()), "perceptual hash of each variant; none where they tell nothing"),
    ),
)


def read_evaluation_images(sources: Sequence[str], settings: ImageSettings, count: Count = ignore) -> pa.Table:
    """Hash all evaluation images at once; see `list_pieces` and `hash_piece`.

    Raises:
        DataError: something does not exist, holds no file, or has a format that cannot be read.
    """
    tables = [hash_piece(piece, settings, count=count) for piece in list_pieces(sources)]
    return pa.concat_tables([EVALUATION_IMAGES.empty(), *tables])


def hash_piece(
    piece: EvaluationPiece, settings: ImageSettings, *, count: Count = ignore, variants: bool = True
) -> pa.Table:
    """Hash the images of one piece.

    Args:
        piece: from `list_pieces`.
        settings: how the dataset's images were processed, so that the same image has the same hash.
        count: receives `IMAGES`, `HASHED`, the reasons of `EVALUATION_REASONS`, and as notes `PLAIN`, `OTHER_FILE`,
            `TOO_LARGE` and `DAMAGED_FILE`.
        variants: also hash cropped, squared, widened and mirrored variants.

    Returns:
        `EVALUATION_IMAGES`, in the order of the images.
    """
    rows: list[dict[str, object]] = []
    strict = relaxed(settings)
    for image in read_piece(piece, count):
        count(IMAGES)
        result = process_image(image.body, strict)
        if isinstance(result, ImageDrop):
            count(str(result.reason), 1, f"{image.file} {image.member}: {result.detail}")
            continue
        count(HASHED)
        forms = _forms(result, image.body, strict, variants)
        if not forms:
            count(PLAIN, 1, f"{image.file} {image.member}")
        rows.append(
            {
                "file": image.file,
                "member": image.member,
                "sha256": result.sha256,
                "pixels_hash": result.pixels_hash,
                "variants": [name for name, _ in forms],
                "hashes": [value for _, value in forms],
            }
        )
    return EVALUATION_IMAGES.table({name: [row[name] for row in rows] for name in EVALUATION_IMAGES.arrow.names})


def relaxed(settings: ImageSettings) -> ImageSettings:
    """Return the same settings without the limits on size and shape, and without what hashes do not see."""
    plain = {"format": ImageFormat.JPG, "keep_bytes": False, "exif": False}
    return settings.model_copy(update={"min_size": 1, "max_aspect_ratio": _ANY_ASPECT, **plain})


def _forms(result: ProcessedImage, body: bytes, settings: ImageSettings, variants: bool) -> list[tuple[str, int]]:
    """Return name and hash of each variant, `same` first; none for an image that hashes do not tell from others."""
    whole = result
    if settings.mode not in _WHOLE:
        again = process_image(body, settings.model_copy(update={"mode": ResizeMode.KEEP_RATIO}))
        whole = again if isinstance(again, ProcessedImage) else result
    grey = _grey(whole)
    if is_plain(grey):
        return []
    more = variant_hashes(grey, settings.mode) if variants else []
    if whole is not result:
        # The dataset neither pads nor crops images that are smaller than its size.
        more = [(WHOLE, whole.phash), *((name, value) for name, value in more if value != whole.phash)]
    return [(SAME, result.phash), *((name, value) for name, value in more if value != result.phash)]


def _grey(result: ProcessedImage) -> Image.Image:
    with Image.open(BytesIO(result.data)) as picture:
        picture.draft("L", (256, 256))
        picture.load()
        return grey_of(picture)
