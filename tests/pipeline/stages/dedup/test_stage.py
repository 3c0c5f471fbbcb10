"""Dedup on fetch folders made by hand: hashes, sizes and texts as the test wants them."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.stage import StageManifest, StageResult, run_stage
from openwit.pipeline.stages.dedup import Dedup
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import COPIES, DUPLICATE_EXAMPLES, IMAGES, SURVIVORS

PAIR = {
    "text_source": "alt",
    "image_source": "src",
    "language": "en",
    "page_url": None,
    "archive": "a.warc",
    "record_offset": 0,
    "fetch_date": None,
    "license": None,
    "query_ids": [0],
    "drawn_by": [0],
}
HASH = 0x0123456789ABCDEF


def jpeg(shade):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def image(
    url, phash=HASH, texts=("a dog",), split="train", side=100, body=None, pixels=None, look=0, red=100, contrast=40
):
    """A row of IMAGES; body and pixels name equal bytes and pixels, by default none are equal."""
    pairs = [
        {**PAIR, "pair_id": hashlib.md5(f"{url} {text}".encode()).digest(), "text": text, "priority": 0.1 + n}
        for n, text in enumerate(texts)
    ]
    return {
        "url": f"http://web.example/{url}",
        "split": split,
        "pairs": pairs,
        "width": 8,
        "height": 8,
        "original_width": side,
        "original_height": side,
        "original_format": "JPEG",
        "format": "jpg",
        "exif": None,
        "original_bytes": 10,
        "sha256": hashlib.sha256((body or url).encode()).hexdigest(),
        "pixels_hash": hashlib.sha256(b"pixels " + (pixels or body or url).encode()).hexdigest(),
        "phash": phash,
        "fingerprint": bytes([look] * 32 + [red, 100, 100] * 2 + [red + contrast, 100 + contrast, 100 + contrast] * 2),
        "image": jpeg(len(url)),
    }


@pytest.fixture
def dedup_of(job, tmp_path_factory):
    """Runs the stage on files of images; returns the folder and its manifest."""

    def run(*files, job=job, **settings):
        root = tmp_path_factory.mktemp("dedup")

        def body():
            result = StageResult()
            for n, rows in enumerate(files):
                path = root / "fetched" / "images" / f"{n:05d}.parquet"
                IMAGES.write(path, pa.Table.from_pylist(rows, schema=IMAGES.arrow), row_group_size=2)
                result.files.append(file_entry(root / "fetched", path))
            return result

        run_stage(job, root / "fetched", "fetch", 1, {}, {}, body)
        manifest, did = Dedup().run(job, DedupSettings(**settings), {"images": root / "fetched"}, root / "out")
        assert did
        return root / "out", manifest

    return run


def rows(folder, kind, schema):
    found = []
    for path in sorted((folder / kind).glob("*.parquet")):
        found += schema.read(path).to_pylist()
    return found


def survivors(folder):
    return {row["url"].rpartition("/")[2]: row for row in rows(folder, "survivors", SURVIVORS)}


def reasons(manifest, unit):
    return next(step for step in manifest.funnel if step.unit == unit).reasons


def test_of_equal_images_the_largest_survives_and_takes_over_the_texts_of_the_others(dedup_of):
    folder, manifest = dedup_of(
        [image("small", texts=["a dog", "a brown dog"]), image("other", phash=~HASH & 2**64 - 1)],
        [image("large", texts=["the dog"], side=300), image("middle", texts=["The dog", "my dog"], side=200)],
    )
    kept = survivors(folder)
    assert sorted(kept) == ["large", "other"]
    assert sorted(pair["text"] for pair in kept["large"]["pairs"]) == ["a brown dog", "a dog", "my dog", "the dog"]
    assert kept["large"]["duplicates"] == 2
    assert reasons(manifest, "images") == {"near_duplicate": 2}
    assert reasons(manifest, "pairs") == {"same_text_of_copy": 1}
    (drop,) = rows(folder, "drops", DROPS)
    assert (drop["text"], drop["detail"]) == ("The dog", "copy of http://web.example/large")


def test_how_two_images_are_equal_is_told_apart(dedup_of):
    folder, manifest = dedup_of(
        [image("best", side=500, body="b"), image("bytes", body="b"), image("pixels", body="c", pixels="b")],
        [image("near", phash=HASH ^ 0b101)],
    )
    assert reasons(manifest, "images") == {"duplicate_bytes": 1, "duplicate_pixels": 1, "near_duplicate": 1}
    assert list(survivors(folder)) == ["best"]
    copies = rows(folder, "copies", COPIES)
    assert sorted((c["reason"], c["distance"]) for c in copies) == [
        ("duplicate_bytes", 0),
        ("duplicate_pixels", 0),
        ("near_duplicate", 2),
    ]


def test_without_a_distance_only_equal_pixels_are_copies(dedup_of):
    folder, manifest = dedup_of(
        [image("a", side=9, pixels="p"), image("b", pixels="p"), image("near", phash=HASH)], max_distance=None
    )
    assert sorted(survivors(folder)) == ["b", "near"]
    assert reasons(manifest, "images") == {"duplicate_pixels": 1}


def test_images_of_near_hashes_that_do_not_look_alike_are_two(dedup_of):
    folder, _ = dedup_of(
        [image("a"), image("b", look=255)], [image("c", phash=HASH ^ 1, look=255), image("d", look=1)]
    )
    assert sorted(row["duplicates"] for row in survivors(folder).values()) == [1, 1]


def test_a_chain_of_small_differences_does_not_collapse_into_one(dedup_of):
    chain = [image(f"{n}", phash=HASH ^ ((1 << 3 * n) - 1), side=1000 - n) for n in range(5)]
    folder, _ = dedup_of(chain[:3], chain[3:], plain="keep")
    assert sorted(survivors(folder)) == ["0", "3"]


def test_a_copy_of_a_held_out_image_leaves_with_its_texts_whatever_its_size(dedup_of):
    folder, manifest = dedup_of([image("held", split="val", texts=["x"]), image("train", side=900, texts=["y", "z"])])
    assert list(survivors(folder)) == ["held"]
    assert [pair["text"] for pair in survivors(folder)["held"]["pairs"]] == ["x"]
    assert reasons(manifest, "pairs") == {"copy_of_held_out": 2}


@pytest.mark.parametrize(("red", "moves"), [(100, True), (104, True), (110, False)])
def test_texts_move_only_between_near_duplicates_of_the_same_colours(dedup_of, red, moves):
    other = image("b", texts=["a red dog", "a dog"], red=red)
    folder, manifest = dedup_of([image("a", side=200), other])
    assert reasons(manifest, "images") == {"near_duplicate": 1}
    texts = {pair["text"] for pair in survivors(folder)["a"]["pairs"]}
    assert texts == ({"a dog", "a red dog"} if moves else {"a dog"})
    expected = {"same_text_of_copy": 1} if moves else {"same_text_of_copy": 1, "other_colours": 1}
    assert reasons(manifest, "pairs") == expected
    assert [drop["detail"] for drop in rows(folder, "drops", DROPS)] == ["copy of http://web.example/a"] * len(
        expected
    )


@pytest.mark.parametrize(("look", "contrast", "moves"), [(0, 40, True), (1, 40, True), (0, 0, False), (1, 5, False)])
def test_texts_move_only_where_there_is_enough_to_tell_other_pictures(dedup_of, look, contrast, moves):
    other = image("b", texts=["the word cat", "a dog"], look=look, contrast=contrast)
    folder, manifest = dedup_of([image("a", side=200, contrast=contrast), other])
    texts = {pair["text"] for pair in survivors(folder)["a"]["pairs"]}
    assert texts == ({"a dog", "the word cat"} if moves else {"a dog"})
    expected = {"same_text_of_copy": 1} if moves else {"same_text_of_copy": 1, "not_surely_same": 1}
    assert reasons(manifest, "pairs") == expected
    pairs = next(step for step in manifest.funnel if step.unit == "pairs")
    assert pairs.rows_in == pairs.rows_out + sum(pairs.reasons.values()) == 3


def test_texts_of_copies_leave_where_they_are_not_merged(dedup_of):
    folder, manifest = dedup_of([image("a", side=200), image("b", texts=["x", "y"])], merge_texts=False)
    assert reasons(manifest, "pairs") == {"near_duplicate": 2}
    assert len(rows(folder, "drops", DROPS)) == 2


def test_an_image_under_many_texts_leaves_as_a_class_and_its_near_copies_with_it(dedup_of):
    placeholder = [image(f"p{n}", texts=[f"text {n}"], body="same") for n in range(5)]
    resized = image("resized", phash=HASH ^ 1, side=2000)
    popular = [image(f"q{n}", phash=HASH << 1 & 2**64 - 1, texts=["one text"]) for n in range(5)]
    folder, manifest = dedup_of([*placeholder[:2], resized, *popular], placeholder[2:], frequent_texts=5)
    assert len(survivors(folder)) == 1
    assert reasons(manifest, "images")["frequent_image"] == 6
    assert reasons(manifest, "pairs")["frequent_image"] == 6
    assert {copy["other_file"] for copy in rows(folder, "copies", COPIES) if copy["reason"] == "frequent_image"} == {
        None
    }


def test_an_image_of_one_tone_leaves_whatever_its_texts(dedup_of):
    tone = image("tone", phash=1 << 63, split="val")
    folder, manifest = dedup_of([tone, image("a")])
    assert list(survivors(folder)) == ["a"]
    assert reasons(manifest, "images") == reasons(manifest, "pairs") == {"plain_image": 1}
    folder, _ = dedup_of([tone, image("a")], plain="keep")
    assert sorted(survivors(folder)) == ["a", "tone"]


def test_what_was_removed_once_does_not_come_back(dedup_of, tmp_path):
    listed = tmp_path / "remove.txt"
    gone = image("gone", phash=~HASH & 2**64 - 1)
    listed.write_text(f"# asked for\nhttp://web.example/a\n{gone['sha256']}\n")
    folder, manifest = dedup_of([image("a", side=900), image("b"), gone], remove=str(listed))
    assert list(survivors(folder)) == ["b"]
    assert reasons(manifest, "images") == reasons(manifest, "pairs") == {"removed": 2}
    assert {drop["reason"] for drop in rows(folder, "drops", DROPS)} == {"removed"}
    with pytest.raises(OpenWITError, match="does not exist"):
        dedup_of([image("a")], remove=str(tmp_path / "nothing"))


def test_all_images_frequent_is_no_dataset(dedup_of):
    with pytest.raises(OpenWITError, match=r"no image of .* is kept \(frequent_image 3\): see"):
        dedup_of([image(f"p{n}", texts=[f"text {n}"]) for n in range(3)], frequent_texts=2)


def test_examples_carry_pictures_of_both_sides(dedup_of):
    folder, manifest = dedup_of(
        [image(f"copy{n}", texts=[f"text {n}"]) for n in range(9)] + [image("best", side=700)], frequent_texts=None
    )
    examples = DUPLICATE_EXAMPLES.read(folder / "duplicates.parquet").to_pylist()
    assert len(examples) == 6
    for example in examples:
        assert example["kept_url"] == "http://web.example/best"
        assert Image.open(io.BytesIO(example["image"])).size == (8, 8)
        assert example["kept_image"]
    assert "duplicates.parquet" in [file.path for file in manifest.files]


def test_an_empty_file_among_others_is_no_harm(dedup_of):
    folder, _ = dedup_of([], [image("a")], [])
    assert list(survivors(folder)) == ["a"]
    assert not (folder / "duplicates.parquet").exists()


def test_nothing_of_the_hand_over_is_left(dedup_of):
    folder, _ = dedup_of([image("a"), image("b")])
    assert not (folder / ".stage" / "handed").exists()


shapes = st.tuples(
    st.integers(0, 2),
    st.sets(st.integers(0, 7), max_size=5),
    st.integers(1, 3),
    st.sampled_from(["train", "train", "val"]),
)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(shapes, min_size=1, max_size=14), st.integers(1, 3))
def test_rows_in_are_rows_out_and_reasons_however_the_images_lie_in_files(dedup_of, drawn, parts):
    bases = [HASH, HASH ^ 0xFF00FF00, ~HASH & 2**64 - 1]
    images = [
        image(
            f"i{n}", bases[base] ^ sum(1 << bit for bit in flips), [f"t{k}" for k in range(texts)], split, 10 + n % 4
        )
        for n, (base, flips, texts, split) in enumerate(drawn)
    ]
    whole, manifest = dedup_of(images, plain="keep")
    spread, other = dedup_of(*(images[n::parts] for n in range(parts)), plain="keep")
    assert survivors(whole).keys() == survivors(spread).keys()
    assert [(s.unit, s.rows_in, s.rows_out, s.reasons) for s in manifest.funnel] == [
        (s.unit, s.rows_in, s.rows_out, s.reasons) for s in other.funnel
    ]
    kept = survivors(whole)
    hashes = np.array([row["phash"] for row in kept.values()], np.uint64)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    assert (distance + 64 * np.eye(len(hashes), dtype=int) > 4).all()
    step = next(step for step in manifest.funnel if step.unit == "pairs")
    assert step.rows_in == sum(len(i["pairs"]) for i in images)
    assert sum(len(row["pairs"]) for row in kept.values()) == step.rows_out
    assert len(rows(whole, "drops", DROPS)) == step.rows_in - step.rows_out


def test_the_manifest_can_be_loaded_again_and_a_second_run_does_nothing(dedup_of, job):
    folder, manifest = dedup_of([image("a"), image("b")])
    assert StageManifest.load(folder, "dedup") == manifest
    _, did = Dedup().run(job, DedupSettings(), {"images": folder.parent / "fetched"}, folder)
    assert not did


def test_same_bytes_from_two_workers(dedup_of):
    from openwit.pipeline.execution.runners import make_engine
    from openwit.pipeline.execution.stage import Job

    files = [[image(f"{k}.{n}", HASH ^ (1 << n), side=50 + n) for n in range(6)] for k in range(3)]
    one, _ = dedup_of(*files)
    two, _ = dedup_of(*files, job=Job(make_engine("local", 2)))
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*.parquet"))
    assert names == sorted(str(p.relative_to(two)) for p in two.rglob("*.parquet"))
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert pq.read_table(one / "survivors" / "00000.parquet").num_rows >= 0
