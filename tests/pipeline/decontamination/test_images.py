"""Evaluation images from every place they may lie in, in every form their copies may take."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.decontamination import files as evaluation_files
from openwit.pipeline.decontamination.images import (
    DAMAGED_FILE,
    EVALUATION_IMAGES,
    EVALUATION_REASONS,
    HASHED,
    IMAGES,
    OTHER_FILE,
    PLAIN,
    TOO_LARGE,
    hash_piece,
    list_pieces,
    read_evaluation_images,
)
from openwit.pipeline.decontamination.index import EvaluationIndex
from openwit.pipeline.decontamination.variants import variant_boxes
from openwit.pipeline.images.phash import is_low_information
from openwit.pipeline.images.process import process_image
from openwit.pipeline.images.settings import ImageSettings, ResizeMode
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest, FileEntry, ShardEntry

SETTINGS = ImageSettings()
PHOTOS = Path(__file__).resolve().parents[4] / "shared" / "data" / "photos.parquet"


@pytest.fixture(scope="module")
def bodies(photo: Any, encoded: Any) -> list[bytes]:
    """Three different pictures."""
    return [encoded(picture(photo, number), quality=90) for number in range(3)]


def picture(photo: Any, number: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    image = photo(*size, seed=number)
    if number == 1:
        return image.transpose(Image.Transpose.ROTATE_180)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if number == 2 else image


def read(sources: list[Any], settings: ImageSettings = SETTINGS) -> tuple[pa.Table, Counter[str]]:
    tally = ReasonCounter()
    table = EVALUATION_IMAGES.conform(read_evaluation_images([str(s) for s in sources], settings, tally))
    counts = tally.counts
    assert counts[IMAGES] == counts[HASHED] + sum(counts[reason] for reason in EVALUATION_REASONS)
    assert table.num_rows == counts[HASHED]
    return table, counts


def names(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["file"].to_pylist(), table["member"].to_pylist(), strict=True))


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


# Where they lie


def test_a_folder_to_its_depths_in_order(tmp_path: Path, bodies: list[bytes]) -> None:
    folder = tmp_path / "val"
    (folder / "n02").mkdir(parents=True)
    (folder / "n01").mkdir()
    (folder / "n02" / "b.JPEG").write_bytes(bodies[0])
    (folder / "n01" / "no-suffix").write_bytes(bodies[1])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "labels.txt").write_text("n01 tench")
    (folder / ".hidden.jpg").write_bytes(bodies[2])
    table, counts = read([folder])
    assert names(table) == [(f"{folder}/n01/no-suffix", ""), (f"{folder}/n02/b.JPEG", "")]
    assert counts[OTHER_FILE] == 1
    assert counts[IMAGES] == 3


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_webdataset_or_any(tmp_path: Path, bodies: list[bytes], mode: str) -> None:
    path = tmp_path / ("a.tar" if mode == "w" else "a.tar.gz")
    members = {"000.jpg": bodies[0], "000.cls": b"7", "deep/001.img": bodies[1], "002.jpg": b"nothing"}
    path.write_bytes(tar_of(members, mode))
    table, counts = read([path])
    assert names(table) == [(str(path), "000.jpg"), (str(path), "deep/001.img")]
    assert counts["not_an_image"] == 1
    assert counts[OTHER_FILE] == 1


def test_parquet_columns_are_found_by_name_or_by_what_they_hold(tmp_path: Path, bodies: list[bytes]) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"label": [1, 2, 3], "jpg": [bodies[0], None, b"broken"]}), plain, row_group_size=2)
    nested = tmp_path / "hf.parquet"
    images = [{"bytes": bodies[0], "path": "a.jpg"}, {"bytes": bodies[1], "path": None}]
    pq.write_table(pa.table({"picture": images, "mask": [b"xx", b"yy"]}), nested)
    several = tmp_path / "several.parquet"
    pq.write_table(pa.table({"left": [bodies[0]], "right": [bodies[1]], "more": [[bodies[0], bodies[2]]]}), several)
    table, counts = read([plain])
    assert names(table) == [(str(plain), "0")]
    assert counts["not_an_image"] == 1
    assert names(read([nested])[0]) == [(str(nested), "0"), (str(nested), "1")]
    assert [member for _, member in names(read([several])[0])] == ["0:left", "0:right", "0:more[0]", "0:more[1]"]


def test_rows_are_numbered_through_the_pieces_of_a_parquet_file(
    tmp_path: Path, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_files, "_ROWS_A_PIECE", 2)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bodies[n % 3] for n in range(5)]}), path, row_group_size=1)
    pieces = list_pieces([str(path)])
    assert [piece.groups for piece in pieces] == [(0, 2), (2, 4), (4, 5)]
    assert [member for piece in pieces for _, member in names(hash_piece(piece, SETTINGS))] == list("01234")
    assert read([path])[0] == pa.concat_tables(hash_piece(piece, SETTINGS) for piece in pieces)


def test_a_dataset_of_ours_by_its_manifest(tmp_path: Path, bodies: list[bytes]) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "00000.tar").write_bytes(
        tar_of({"0.jpg": bodies[0], "0.txt": b"a text", "0.json": b"{}", "1.jpg": bodies[1]})
    )
    (tmp_path / "stray.jpg").write_bytes(bodies[2])
    entry = FileEntry(path="train/00000.tar", bytes=0, sha256="")
    shard = ShardEntry(
        name="00000", split="train", samples=2, pairs=2, tar=entry, metadata=entry, index=entry, stats=entry
    )
    DatasetManifest(name="d", recipe={}, tools={}, funnel=[], shards=[shard]).save(tmp_path)
    table, _ = read([tmp_path])
    assert names(table) == [(f"{tmp_path}/train/00000.tar", "0.jpg"), (f"{tmp_path}/train/00000.tar", "1.jpg")]
    (tmp_path / "train" / "00000.tar").unlink()
    with pytest.raises(OpenWITError, match="is missing, but"):
        list_pieces([str(tmp_path)])


def test_patterns_name_each_file_once_and_a_folder_may_hold_tars_and_tables(
    tmp_path: Path, bodies: list[bytes]
) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({"x.jpg": bodies[0]}))
    (tmp_path / "b.jpg").write_bytes(bodies[1])
    pq.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    pq.write_table(pa.table({"image": [bodies[2]]}), tmp_path / "z.parquet")
    table, counts = read([f"{tmp_path}/*.tar", f"{tmp_path}/a*", f"{tmp_path}/b.jpg"])
    assert [Path(file).name for file, _ in names(table)] == ["a.tar", "b.jpg"]
    table, counts = read([tmp_path])
    assert [Path(file).name for file, _ in names(table)] == ["b.jpg", "a.tar", "z.parquet"]
    assert counts[OTHER_FILE] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "does not exist"),
        (lambda folder: folder / "*.tar", "matches no file"),
        (lambda folder: (folder / "empty").mkdir() or folder / "empty", "holds no file"),
        (lambda folder: written(folder / "a.parquet", b"no table"), "not a readable Parquet"),
        (lambda folder: labels(folder / "l.parquet"), "no column with images; it has: label"),
    ],
)
def test_what_a_user_named_wrongly_is_one_sentence(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(OpenWITError, match=message):
        list_pieces([str(make(tmp_path))])


def written(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def labels(path: Path) -> Path:
    pq.write_table(pa.table({"label": [1]}), path)
    return path


# Bad data


def test_hostile_tars_are_counted_and_bounded(
    tmp_path: Path, bodies: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tar_of({"a.jpg": bodies[0], "b.jpg": bodies[1]})
    table, counts = read([written(tmp_path / "cut.tar", good[: len(bodies[0]) + 2000])])
    assert (table.num_rows, counts[DAMAGED_FILE]) == (1, 1)
    assert read([written(tmp_path / "none.tar", b"no tar at all" * 99)])[1][DAMAGED_FILE] == 1
    packed = bytearray(gzip.compress(good, mtime=0))
    packed[len(packed) // 2 :] = zlib.compress(b"x" * 5000)
    assert read([written(tmp_path / "torn.tar.gz", bytes(packed))])[1][DAMAGED_FILE] == 1

    # A header that claims four gigabytes of names, of which a bomb could give them all.
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    bomb = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 22))
    assert read([written(tmp_path / "bomb.tar.gz", bomb)])[1][DAMAGED_FILE] == 1

    monkeypatch.setattr(evaluation_files, "MAX_IMAGE_BYTES", len(bodies[0]) - 1)
    big = tar_of({"a.jpg": bodies[0], "small.jpg": bodies[0][:100]})
    table, counts = read([written(tmp_path / "big.tar", big)])
    assert (counts[TOO_LARGE], counts[IMAGES], table.num_rows) == (1, 1, 0)


def test_links_pipes_and_special_members_are_no_images(tmp_path: Path, bodies: list[bytes]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("x.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    table, counts = read([written(tmp_path / "links.tar", out.getvalue())])
    assert (table.num_rows, counts[IMAGES]) == (0, 0)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(bodies[0])
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dead.jpg").symlink_to("nowhere.jpg")
    table, counts = read([folder])
    assert (table.num_rows, counts[OTHER_FILE]) == (1, 2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_tars_and_tables_never_raise(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    image = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(image, "PNG")
    members = {"a.png": image.getvalue(), "b.png": image.getvalue()}
    whole = tar_of(members)
    body = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    read([written(folder / "a.tar", bytes(body[: data.draw(st.integers(0, len(body)))]))])
    out = io.BytesIO()
    pq.write_table(pa.table({"image": list(members.values())}), out)
    body = bytearray(out.getvalue())
    body[data.draw(st.integers(4, len(body) - 9))] ^= 1 << data.draw(st.integers(0, 7))
    path = written(folder / "a.parquet", bytes(body))
    try:
        pieces = list_pieces([str(path)])
    except OpenWITError:
        return
    for piece in pieces:
        hash_piece(piece, SETTINGS)


def test_a_bomb_is_dropped_by_its_header_and_small_images_are_taken(tmp_path: Path, encoded: Any, photo: Any) -> None:
    (tmp_path / "bomb.png").write_bytes(encoded(Image.new("L", (9000, 9000)), "PNG"))
    (tmp_path / "digit.png").write_bytes(encoded(photo(28, 28), "PNG"))
    (tmp_path / "strip.png").write_bytes(encoded(photo(300, 20), "PNG"))
    table, counts = read([tmp_path])
    assert counts["too_many_pixels"] == 1
    assert table.num_rows == 2


# What they are known by


def test_bytes_and_pixels_are_those_of_the_dataset(tmp_path: Path, bodies: list[bytes]) -> None:
    for mode in ResizeMode:
        image_settings = ImageSettings(mode=mode, size=200)
        table, _ = read([written(tmp_path / "a.jpg", bodies[0])], image_settings)
        result: Any = process_image(bodies[0], image_settings)
        index = EvaluationIndex(table, 0)
        assert index.lookup_checksums([result.sha256, "", None]).tolist() == [0, -1, -1]
        assert index.lookup_checksums([result.pixels_hash], "pixels_hash").tolist() == [0]
        found = index.lookup(np.array([result.phash], np.uint64))
        assert (found.rows.tolist(), found.distances.tolist(), found.variants) == ([0], [0], ["same"])


def looked_up(folder: Path, evaluation: bytes, image: Image.Image, image_settings: ImageSettings = SETTINGS) -> str:
    """The form by which an image is found, or nothing."""
    table, _ = read([written(folder / "a.jpg", evaluation)], image_settings)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    result: Any = process_image(out.getvalue(), image_settings)
    return EvaluationIndex(table, 4).lookup(np.array([result.phash], np.uint64)).variants[0]


@pytest.mark.parametrize("mode", [ResizeMode.KEEP_RATIO, ResizeMode.BORDER, ResizeMode.NO])
def test_copies_are_found_in_every_form(tmp_path: Path, photo: Any, encoded: Any, mode: ResizeMode) -> None:
    image = picture(photo, 1, (400, 300))
    body = encoded(image)
    image_settings = ImageSettings(mode=mode)
    copies = {
        "same": image.resize((360, 270)),
        "whole": image.resize((200, 150)),  # too small for a border
        "centre_6": image.crop((12, 9, 388, 291)),
        "corner_10_0": image.crop((0, 0, 360, 270)),
        "side_10_0": image.crop((40, 0, 400, 300)),
        "square": image.crop((50, 0, 350, 300)),
        "same_mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    for name, copy in copies.items():
        found = looked_up(tmp_path, body, copy, image_settings)
        if mode is ResizeMode.BORDER:  # of which all forms have most of their hash in common
            assert found
        else:
            assert found == name.replace("whole", "same")
    assert looked_up(tmp_path, body, picture(photo, 0, (400, 300)), image_settings) == ""


def test_squares_cut_by_the_dataset_are_found(tmp_path: Path, photo: Any, encoded: Any) -> None:
    image = picture(photo, 1, (400, 300))
    image_settings = ImageSettings(mode=ResizeMode.CENTER_CROP)
    assert looked_up(tmp_path, encoded(image), image, image_settings) == "same"
    assert looked_up(tmp_path, encoded(image), image.crop((40, 30, 400, 300)), image_settings) != ""


def test_an_evaluation_image_that_is_a_crop_finds_the_whole(tmp_path: Path, photo: Any, encoded: Any) -> None:
    image = picture(photo, 1, (400, 300))
    assert looked_up(tmp_path, encoded(image.crop((12, 9, 388, 291))), image).startswith("wider")


def test_plain_images_are_known_by_bytes_only(tmp_path: Path, encoded: Any) -> None:
    x = np.mgrid[0:200, 0:200][1]
    noise = np.random.default_rng(0).normal(240, 6, (200, 200))
    (tmp_path / "white.png").write_bytes(encoded(Image.new("RGB", (99, 99), "white"), "PNG"))
    (tmp_path / "noise.png").write_bytes(encoded(Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)), "PNG"))
    (tmp_path / "gradient.png").write_bytes(encoded(Image.fromarray((x + 20).astype(np.uint8)), "PNG"))
    table, counts = read([tmp_path])
    assert counts[PLAIN] == counts[HASHED] == 3
    index = EvaluationIndex(table, 8)
    other: Any = process_image(encoded(Image.new("RGB", (300, 200), "#dddddd")), SETTINGS)
    found = index.lookup(np.array([other.phash, 0, 1 << 63], np.uint64))
    assert found.rows.tolist() == [-1, -1, -1]
    assert index.lookup_checksums(table["sha256"].to_pylist()).tolist() == [0, 1, 2]


def test_no_form_of_a_picture_on_white_says_nothing(tmp_path: Path, encoded: Any) -> None:
    """A dot off the middle: some of its crops are plain."""
    image = Image.new("RGB", (300, 300), "white")
    image.paste((0, 0, 0), (0, 0, 14, 300))
    table, _ = read([written(tmp_path / "a.png", encoded(image, "PNG"))])
    assert not any(is_low_information(np.array(row, np.uint64)).any() for row in table["hashes"].to_pylist())


def test_forms_are_named_once_and_stay_within_reason() -> None:
    for width, height in ((128, 128), (170, 128), (128, 500)):
        boxes = variant_boxes(width, height)
        assert len({name for name, _, _ in boxes}) == len(boxes)
        for _, (left, top, right, bottom), _ in boxes:
            assert left + right < 1
            assert top + bottom < 1
            assert min(left, top, right, bottom) > -0.2


# The index


def plain_lookup(table: pa.Table, hashes: list[int], distance: int) -> list[tuple[int, int, str]]:
    forms = [
        (row, variant, value)
        for row, (variants, values) in enumerate(
            zip(table["variants"].to_pylist(), table["hashes"].to_pylist(), strict=True)
        )
        for variant, value in zip(variants, values, strict=True)
    ]
    answers = []
    for query in hashes:
        best = min(((v ^ query).bit_count() for _, _, v in forms), default=65)
        answers.append(
            next((row, best, name) for row, name, v in forms if (v ^ query).bit_count() == best)
            if best <= distance
            else (-1, -1, "")
        )
    return answers


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 12),
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=4), max_size=8),
    st.lists(st.tuples(st.integers(0, 99), st.sets(st.integers(0, 63), max_size=14)), max_size=12),
)
def test_the_index_finds_the_nearest_and_misses_nothing(
    distance: int, rows: list[list[int]], flips: list[tuple[int, set[int]]]
) -> None:
    table = EVALUATION_IMAGES.table(
        {
            "file": [""] * len(rows),
            "member": [""] * len(rows),
            "sha256": [str(n // 2) for n in range(len(rows))],
            "pixels_hash": [""] * len(rows),
            "variants": [[f"v{n}" for n in range(len(row))] for row in rows],
            "hashes": rows,
        }
    )
    known = [value for row in rows for value in row] or [5]
    hashes = [known[number % len(known)] ^ sum(1 << bit for bit in bits) for number, bits in flips]
    found = EvaluationIndex(table, distance).lookup(np.array(hashes, np.uint64))
    answers = list(zip(found.rows.tolist(), found.distances.tolist(), found.variants, strict=True))
    assert answers == plain_lookup(table, hashes, distance)


# Real photographs


@pytest.mark.skipif(not PHOTOS.exists(), reason="needs ../shared/data/photos.parquet")
def test_real_photographs_cropped_and_mirrored(tmp_path: Path) -> None:
    photos = pq.read_table(PHOTOS, columns=["jpeg"])["jpeg"].to_pylist()[:24]
    pq.write_table(pa.table({"jpeg": photos}), tmp_path / "a.parquet")
    index = EvaluationIndex(read([tmp_path / "a.parquet"])[0], 4)
    for change, least in ((0.02, 24), (0.05, 23), (0.1, 23)):
        hashes = []
        for body in photos:
            image = Image.open(io.BytesIO(body)).convert("RGB")
            x, y = round(image.width * change / 2), round(image.height * change / 2)
            out = io.BytesIO()
            cropped = image.crop((x, y, image.width - x, image.height - y))
            cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(out, "JPEG", quality=50)
            result: Any = process_image(out.getvalue(), SETTINGS)
            hashes.append(result.phash)
        rows = index.lookup(np.array(hashes, np.uint64)).rows
        assert int((rows == np.arange(24)).sum()) >= least
        assert set(rows.tolist()) <= {-1, *range(24)}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_of_any_compression_and_from_a_mac(tmp_path: Path, bodies: list[bytes], compress: Any) -> None:
    members = {"._a.jpg": b"\0\5\x16\7", "a.jpg": bodies[0], "__MACOSX/._b.jpg": b"\0\5\x16\7", "b.JPG": bodies[1]}
    suffix = {bytes: ".tar", gzip.compress: ".tgz", bz2.compress: ".tar.bz2", lzma.compress: ".tar.xz"}[compress]
    table, counts = read([written(tmp_path / f"a{suffix}", compress(tar_of(members)))])
    assert (table.num_rows, counts[DAMAGED_FILE]) == (2, 0)


def test_a_damaged_header_costs_its_member_only(tmp_path: Path, bodies: list[bytes]) -> None:
    raw = bytearray(tar_of({"a.jpg": bodies[0], "b.txt": b"words", "c.jpg": bodies[1]}))
    place = raw.index(b"b.txt")
    raw[place + 124 : place + 136] = b"\xff" * 12
    table, counts = read([written(tmp_path / "a.tar", bytes(raw))])
    assert (table.num_rows, counts[DAMAGED_FILE]) == (2, 1)
