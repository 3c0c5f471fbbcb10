"""Draw a contact sheet: some captions, and for each the ten images that the model ranks first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.images.opening import OTHER_FORMATS, open_image, upright_srgb
from openwit.training.data.sharded import Dataset
from openwit.training.evaluation.embed import EmbeddedSplit

TOP = 10

_PAPER = "#faf9f6"
_INK = "#22252a"
_FAINT = "#7c8088"
_RULE = "#e3e1da"
_GREEN = "#1f9d55"

_THUMB = 120
_GAP = 14
_MARGIN = 40
_CAPTION_WIDTH = 270
_ROW = _THUMB + 46
_HEADER = 104
_FOOTER = 74
_FRAME = 5


@dataclass(frozen=True)
class Query:
    """One row of the sheet."""

    caption: str
    best: list[tuple[int, float]]  # image number, score; best first
    right: int  # image number
    place: int  # 1 is best


def choose_queries(split: EmbeddedSplit, count: int) -> list[Query]:
    """Choose the rows of the sheet: images at evenly spaced positions of the split, each with its first text as query.

    The choice depends on the order of the samples only, so it cannot favour what the model has learned.
    """
    total = len(split.images)
    chosen = [number * total // count for number in range(count)] if total >= count else list(range(total))
    queries = []
    for image in chosen:
        first_entry = int(np.argmax(split.entry_image == image))
        text = int(split.entry_text[first_entry])
        scores: NDArray[np.float32] = (split.images @ split.texts[text]).numpy()
        order = np.argsort(-scores, kind="stable")
        best = [(int(number), float(scores[number])) for number in order[:TOP]]
        place = int(np.flatnonzero(order == image)[0]) + 1
        queries.append(Query(split.captions[text], best, image, place))
    return queries


def draw_contact_sheet(
    path: Path,
    split: EmbeddedSplit,
    *,
    dataset: Dataset,
    title: str,
    subtitle: str,
    count: int = 8,
) -> None:
    """Write the sheet as a PNG.

    Args:
        path: target; written completely or not at all.
        split: embeddings.
        dataset: where the images are.
        title: first line.
        subtitle: second line.
        count: rows, fewer if the split has fewer images.
    """
    queries = choose_queries(split, count)
    columns = TOP + 1
    width = 2 * _MARGIN + _CAPTION_WIDTH + columns * (_THUMB + _GAP) + _GAP
    height = _HEADER + len(queries) * _ROW + _FOOTER
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 26), title, fill=_INK, font=_font(26))
    draw.text((_MARGIN, 62), subtitle, fill=_FAINT, font=_font(16))
    for number, query in enumerate(queries):
        _draw_row(sheet, draw, _HEADER + number * _ROW, query, split, dataset)
    rule = (
        f"Queries are not picked by hand: the images at {len(queries)} evenly spaced places of the split, each asked "
        "for by its first caption. Green frame: the image the caption belongs to.\n"
        "Number under an image: cosine similarity. Last column: the right image, with its place, where it is "
        f"not among the best {TOP}."
    )
    draw.multiline_text((_MARGIN, height - _FOOTER + 16), rule, fill=_FAINT, font=_font(14), spacing=6)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def draw_results(
    path: Path,
    pictures: Sequence[bytes | None],
    labels: Sequence[tuple[str, str]],
    *,
    title: str,
    subtitle: str,
    query: bytes | None = None,
) -> None:
    """Write the results of a search as a PNG, best first, in rows of five.

    Args:
        path: target; written completely or not at all.
        pictures: image files; None for one that is not there.
        labels: a short line and a longer text for each.
        title, subtitle: first and second line.
        query: image that was searched by; drawn at the top right.
    """
    columns, row, width = 5, _THUMB + 96, _THUMB + 90
    lines = -(-max(1, len(pictures)) // columns)
    sheet = Image.new("RGB", (2 * _MARGIN + columns * width, _HEADER + 40 + lines * row + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    wide = sheet.width - 2 * _MARGIN - (_THUMB + 20 if query else 0)
    draw.text((_MARGIN, 26), "\n".join(_wrap(title, _font(26), wide, most=1)), fill=_INK, font=_font(26))
    draw.multiline_text(
        (_MARGIN, 66), "\n".join(_wrap(subtitle, _font(16), wide, most=2)), fill=_FAINT, font=_font(16)
    )
    if query is not None:
        _draw_thumb(sheet, draw, (sheet.width - _MARGIN - _THUMB, 14), _thumb_of(query), _GREEN)
    for number, (picture, (short, text)) in enumerate(zip(pictures, labels, strict=True)):
        left, top = _MARGIN + number % columns * width, _HEADER + 40 + number // columns * row
        _draw_thumb(sheet, draw, (left, top), _thumb_of(picture), None)
        _centred(draw, left, top + _THUMB + 7, short, _INK)
        cut = "\n".join(_wrap(text, _font(13), width - 16, most=3))
        draw.multiline_text((left, top + _THUMB + 28), cut, fill=_FAINT, font=_font(13), spacing=3)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _thumb_of(picture: bytes | None) -> Image.Image:
    """Return a square thumbnail; an empty one for what is not there or no image."""
    try:
        with open_image(picture or b"", other_formats=OTHER_FORMATS) as opened:
            return ImageOps.fit(upright_srgb(opened), (_THUMB, _THUMB), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Image.new("RGB", (_THUMB, _THUMB), _RULE)


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    top: int,
    query: Query,
    split: EmbeddedSplit,
    dataset: Dataset,
) -> None:
    draw.line((_MARGIN, top - 10, sheet.width - _MARGIN, top - 10), fill=_RULE, width=1)
    font = _font(17)
    lines = _wrap(query.caption, font, _CAPTION_WIDTH - 24, most=5)
    draw.multiline_text((_MARGIN, top + 4), "\n".join(lines), fill=_INK, font=font, spacing=5)
    for column, (image, score) in enumerate(query.best):
        left = _MARGIN + _CAPTION_WIDTH + column * (_THUMB + _GAP)
        right = image == query.right
        _draw_thumb(sheet, draw, (left, top), _thumbnail(dataset, split, image), _GREEN if right else None)
        label = f"{score:.2f}"
        _centred(draw, left, top + _THUMB + 7, label, _GREEN if right else _FAINT)
    if query.place > TOP:
        left = _MARGIN + _CAPTION_WIDTH + TOP * (_THUMB + _GAP) + _GAP
        draw.line((left - _GAP, top, left - _GAP, top + _THUMB), fill=_RULE, width=2)
        _draw_thumb(sheet, draw, (left, top), _thumbnail(dataset, split, query.right), _GREEN)
        _centred(draw, left, top + _THUMB + 7, f"place {query.place}", _GREEN)


def _draw_thumb(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], thumb: Image.Image, frame: str | None
) -> None:
    left, top = corner
    if frame is not None:
        box = (left - _FRAME, top - _FRAME, left + _THUMB + _FRAME - 1, top + _THUMB + _FRAME - 1)
        draw.rounded_rectangle(box, radius=7, fill=frame)
    mask = Image.new("L", (_THUMB, _THUMB), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, _THUMB - 1, _THUMB - 1), radius=4, fill=255)
    sheet.paste(thumb, (left, top), mask)


def _thumbnail(dataset: Dataset, split: EmbeddedSplit, image: int) -> Image.Image:
    sample = dataset.sample(int(split.indices[image]))
    with open_image(sample.image, other_formats=OTHER_FORMATS) as opened:
        return ImageOps.fit(upright_srgb(opened), (_THUMB, _THUMB), Image.Resampling.LANCZOS)


def _centred(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, fill: str) -> None:
    font = _font(14)
    draw.text((left + (_THUMB - font.getlength(text)) / 2, top), text, fill=fill, font=font)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """Break a text into at most `most` lines of at most `width` pixels, the last with an ellipsis if text is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
        while font.getlength(line) > width and len(line) > 1:
            cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= width)
            lines.append(line[:cut])
            line = line[cut:]
    lines.append(line)
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and font.getlength(lines[-1] + " ...") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + " ..."
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own scalable font, so that no font of the system is needed."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built without FreeType"
    return font
