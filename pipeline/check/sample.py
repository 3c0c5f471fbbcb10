"""Write a sample of made-up pairs, which every stage can read, and know what in it is payload."""

import bz2
import gzip
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORDS = ("red kite", "grey heron", "wren", "oak")
ROWS = 8
"""Pairs of one table."""


class Sample(NamedTuple):
    """Files of a sample.

    Attributes:
        tables: glob of tables of images and texts.
        queries: list of queries.
        dump: of a Wikipedia.
        views: page views.
        images: glob of evaluation images.
        payload: pieces of captions and images: bytes that no shuffle needs to hold.
    """

    tables: str
    queries: str
    dump: str
    views: str
    images: str
    payload: tuple[bytes, ...]


def write_sample(folder: Path, tables: int) -> Sample:
    """Write a sample of some tables to a folder."""
    payload: list[bytes] = []
    for number in range(tables):
        rows = []
        for n in range(number * ROWS, (number + 1) * ROWS):
            image = _picture(n)
            caption = f"A {WORDS[n % 4]} near an {WORDS[(n + 3) % 4]}, number {n} of the sample"
            payload += [caption.encode(), image[len(image) // 2 :][:32]]
            rows.append({"image": image, "texts": [caption], "split": "val" if n % 6 == 0 else "train"})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"pairs-{number:05d}.parquet")
    (folder / "queries.txt").write_text("\n".join(WORDS))
    pages = "".join(
        f"<page><title>{word}</title><ns>0</ns><id>{n}</id><revision><text>The [[{word}]] is a {word}.</text>"
        "</revision></page>"
        for n, word in enumerate(WORDS)
    )
    (folder / "wiki.xml.bz2").write_bytes(bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    lines = "".join(f"en {word.replace(' ', '_')} 1000 0\n" for word in WORDS)
    (folder / "pageviews-20240101-000000.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "other.jpg").write_bytes(_picture(1_000_000))
    return Sample(
        str(folder / "pairs-*.parquet"),
        str(folder / "queries.txt"),
        str(folder / "wiki.xml.bz2"),
        str(folder / "pageviews-*.gz"),
        str(folder / "evaluation"),
        tuple(payload),
    )


def _picture(number: int) -> bytes:
    """Return a picture of coarse coloured noise, which no perceptual hash confuses with another."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()
