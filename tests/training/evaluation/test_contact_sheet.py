from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.contact_sheet import _GREEN, TOP, _font, _wrap, choose_queries, draw_contact_sheet
from openwit.training.evaluation.embed import EmbeddedSplit


def known_split(dataset: ShardedDataset, hit: bool) -> EmbeddedSplit:
    """Embeddings that put the right image first, or last."""
    count = len(dataset)
    eye = torch.eye(count)
    texts = [dataset.sample(number).texts[0] for number in range(count)]
    every = np.arange(count)
    captions = [f"{text} {number}" for number, text in enumerate(texts)]
    return EmbeddedSplit(eye if hit else 1 - eye, eye, every, every, every, captions, [])


def test_queries_are_evenly_spaced_and_ranked(dataset: Path) -> None:
    val = ShardedDataset(dataset, "val")
    hits = choose_queries(known_split(val, hit=True), 8)
    assert [query.right for query in hits] == [0, 6, 12, 18, 24, 30, 36, 42]
    assert all(query.place == 1 and query.best[0] == (query.right, 1.0) and len(query.best) == TOP for query in hits)
    misses = choose_queries(known_split(val, hit=False), 8)
    assert all(query.place == 48 for query in misses)
    assert len(choose_queries(known_split(val, hit=True), 100)) == 48


@pytest.mark.parametrize("hit", [True, False])
def test_the_sheet_frames_the_right_image(dataset: Path, tmp_path: Path, hit: bool) -> None:
    val = ShardedDataset(dataset, "val")
    path = tmp_path / "sheets" / "sheet.png"
    draw_contact_sheet(path, known_split(val, hit), dataset=val, title="Title", subtitle="Subtitle", count=3)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("RGB"))
    green = (pixels == ImageColor.getrgb(_GREEN)).all(axis=2)
    columns = np.flatnonzero(green.any(axis=0))
    assert green.sum() > 3 * 4 * 120 * 3
    # First column of images when found, the column beyond the ten best when not.
    assert (columns.min() < 400) == hit
    assert (columns.max() > 1500) == (not hit)


def test_long_captions_are_wrapped_and_cut() -> None:
    font = _font(17)
    lines = _wrap("a very long caption about nothing " * 20 + "x" * 300, font, 200, most=4)
    assert len(lines) == 4
    assert lines[-1].endswith(" ...")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert _wrap("x" * 100, font, 60, most=50) == _wrap("x" * 100, font, 60, most=50)
    assert "".join(_wrap("y" * 100, font, 60, most=50)) == "y" * 100
    assert _wrap("", font, 100, 3) == [""]
