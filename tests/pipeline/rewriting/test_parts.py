"""Conditions, lists of uids, samples that several datasets have, and joined funnels, each on its own."""

import numpy as np
import pyarrow as pa
import pytest

from openwit.pipeline.rewriting.conditions import parse_condition
from openwit.pipeline.rewriting.copy_job import joined_funnel
from openwit.pipeline.rewriting.keep_list import places_in, read_keep_list, uid_numbers
from openwit.pipeline.rewriting.verdicts import find_twice
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.manifest import FunnelStep

ROWS = pa.table(
    {
        "url": ["http://a.org/1.jpg", "http://b.org/2.jpg", "http://a.org/3.jpg"],
        "caption": ["a wren", "", "two red kites"],
        "languages": pa.array([["en", "de"], [None], []], pa.list_(pa.string())),
        "width": pa.array([100, 300, 200], pa.int32()),
        "height": pa.array([100, 100, 0], pa.int32()),
        "clip": pa.array([0.25, None, 0.31], pa.float32()),
        "seen": pa.array([True, None, False]),
        "day": pa.array([1, 2, 3], pa.timestamp("s")),
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("width >= 200", [1, 2]),
        ("width>=200.5", [1]),
        ("width in 100, 200", [0, 2]),
        ("width not in (100)", [1, 2]),
        ("clip > 0.3", [2]),
        ("clip is null", [1]),
        ("clip is not null", [0, 2]),
        ("seen == true", [0]),
        ("seen != true", [2]),
        ("language == en", [0]),
        ("language is null", [1, 2]),
        ("caption ~ ^(a|two) ", [0, 2]),
        ("caption !~ kite", [0, 1]),
        ('caption == ""', [1]),
        ("split == val", [0, 1, 2]),
        ("host = a.org", [0, 2]),
        ("text_length > 6", [2]),
        ("aspect_ratio <= 3", [0, 1]),
        ("day > '1970-01-01 00:00:01'", [1, 2]),
        ('"width" < 300', [0, 2]),
    ],
)
def test_conditions(text, rows):
    condition = parse_condition(text)
    condition.check(dict(zip(ROWS.column_names, ROWS.schema.types, strict=True)))
    assert np.flatnonzero(condition.holds(ROWS, "val")).tolist() == rows


@pytest.mark.parametrize("text", ["", "width", "width >", "> 3", "width ? 3", "width is 3"])
def test_what_is_no_condition(text):
    with pytest.raises(RecipeError, match="condition"):
        parse_condition(text)


@pytest.mark.parametrize("text", ["width > wide", "seen == 1", "caption ~ (", "width ~ 3", "day > soon", "url2 == a"])
def test_values_that_do_not_fit(text):
    with pytest.raises(RecipeError, match="condition"):
        parse_condition(text).check(dict(zip(ROWS.column_names, ROWS.schema.types, strict=True)))


def test_uids(tmp_path):
    path = tmp_path / "uids.txt"
    path.write_text(f"{'0' * 32}\nmine 7\n{'f' * 32}\n\nmine 7\n")
    keep = read_keep_list(str(path))
    assert len(keep) == 3
    wanted = uid_numbers(["mine 7", "F" * 32, "mine 8", "0" * 31 + "1"])
    assert (places_in(keep, wanted) >= 0).tolist() == [True, True, False, False]
    np.save(tmp_path / "flat.npy", np.zeros((2, 2), "u8"))
    np.save(tmp_path / "floats.npy", np.zeros(2))
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "uids.csv").write_text("uid\na\n")
    for name, sentence in (
        ("flat.npy", "2 dimensions"),
        ("floats.npy", "float64"),
        ("empty.txt", "names no uid"),
        ("uids.csv", "give uids as"),
        ("none.txt", "cannot be read"),
    ):
        with pytest.raises(DataError, match=sentence):
            read_keep_list(str(tmp_path / name))


def test_upper_halves_that_are_alike():
    keep = np.unique(uid_numbers(["00" * 8 + f"{n:016x}" for n in range(5)]))
    assert places_in(keep, keep).tolist() == [0, 1, 2, 3, 4]


def test_what_several_datasets_have():
    # Shards 0 and 1 are of one dataset, 2 of another; shard 2 is held out.
    places = np.array([0, 1, 1 << 32, 2 << 32, (2 << 32) + 1], np.uint64)
    held_out = np.array([False, False, False, True, True])
    urls = np.array([7, 7, 8, 8, 9], np.uint64)
    others = np.arange(5, dtype=np.uint64)
    made = find_twice(places, held_out, [others, urls, others], np.array([0, 0, 1]))
    assert made["place"].tolist() == [1 << 32]
    assert made["of"].tolist() == [2 << 32]
    assert made["reason"].tolist() == [3]


def test_funnels_are_added_up_and_go_on():
    def line(stage, rows_in, rows_out):
        lost = {"gone": rows_in - rows_out} if rows_in > rows_out else {}
        return FunnelStep(stage=stage, unit="pairs", rows_in=rows_in, rows_out=rows_out, reasons=lost)

    one = [line("candidates", 10, 8), line("dedup", 8, 7), line("redraw", 7, 5), line("shard", 5, 5)]
    other = [line("candidates", 6, 6), line("dedup", 6, 4), line("shard", 4, 4), line("removed", 4, 3)]
    joined = joined_funnel([other, one])
    assert [(each.stage, each.rows_in, each.rows_out) for each in joined] == [
        ("candidates", 16, 14),
        ("dedup", 14, 11),
        ("redraw", 11, 9),
        ("shard", 9, 9),
        ("removed", 9, 8),
    ]
    assert joined_funnel([one]) is one
