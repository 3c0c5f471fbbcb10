import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData

IMAGES = [bytes([number]) * 3 for number in range(6)]


def write_parquet(path: Path, labels: list[Any], rows_in_group: int = 2, **columns: Any) -> Path:
    table = pa.table({"image": pa.array(IMAGES[: len(labels)]), "label": labels, **columns})
    pq.write_table(table, path, row_group_size=rows_in_group)
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, parts in samples.items():
            for suffix, data in parts.items():
                add(tar, f"{key}.{suffix}", data)
    return path


def contents(data: ClassificationSet) -> list[tuple[bytes, str]]:
    return [(sample.image, data.classes[sample.label]) for sample in (data.sample(n) for n in range(len(data)))]


def test_words_in_parquet(tmp_path: Path) -> None:
    data = open_classification(
        LabelledData(write_parquet(tmp_path / "pets.parquet", ["dog", "cat", None, "cat", "dog"]))
    )
    assert data.title == "pets"
    assert data.classes == ("cat", "dog")
    assert contents(data) == [(IMAGES[0], "dog"), (IMAGES[1], "cat"), (IMAGES[3], "cat"), (IMAGES[4], "dog")]
    assert data.left_out == {"no label": ["row 2"]}
    assert data.sample(3) == ("row 4", IMAGES[4], 1)


def test_numbers_with_a_file_of_names(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "pets.parquet", [1, 0, None, 1, -1], key=["a", "b", "c", "d", "e"])
    with pytest.raises(OpenWITError, match="labels of .* are numbers, and no names come with them"):
        open_classification(LabelledData(path))
    names = tmp_path / "names.txt"
    names.write_text("tabby cat\npug\n\n")
    data = open_classification(LabelledData(path, classes=names))
    assert contents(data) == [(IMAGES[0], "pug"), (IMAGES[1], "tabby cat"), (IMAGES[3], "pug")]
    assert data.left_out == {"no label": ["c"], "unknown class": ["e"]}
    wrong = write_parquet(tmp_path / "wrong.parquet", [1, 0, 7, -2], key=["a", "b", "c", "d"])
    with pytest.raises(OpenWITError, match=r"2 labels of .* are out of range, such as 7 of 'c': .* has 2 classes"):
        open_classification(LabelledData(wrong, classes=names))
    names.rename(tmp_path / "classnames.txt")
    assert contents(open_classification(LabelledData(path))) == contents(data)


def test_names_in_the_file_as_hugging_face_writes_them(tmp_path: Path) -> None:
    struct = pa.array([{"bytes": image, "path": None} for image in IMAGES[:3]])
    table = pa.table({"img": struct, "label": pa.array([1, 0, 1], pa.int64())})
    features = {"info": {"features": {"label": {"names": ["ship", "frog"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(table.slice(0, 2), folder / "test-00000-of-00002.parquet")
    pq.write_table(table.slice(2), folder / "test-00001-of-00002.parquet")
    data = open_classification(LabelledData(folder))
    assert contents(data) == [(IMAGES[0], "frog"), (IMAGES[1], "ship"), (IMAGES[2], "frog")]
    few = tmp_path / "few.txt"
    few.write_text("ship\nfrog\ncat\n")
    with pytest.raises(OpenWITError, match=r"few.txt names 3 classes, but .* has 2"):
        open_classification(LabelledData(folder, classes=few))


def test_the_held_out_split_is_the_default(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", list("abab"), split=["train", "train", "test", "test"])
    data = open_classification(LabelledData(path))
    assert data.title == "a/test"
    assert contents(data) == [(IMAGES[2], "a"), (IMAGES[3], "b")]
    assert len(open_classification(LabelledData(path, split="train"))) == 2
    with pytest.raises(OpenWITError, match="has no split 'val' .it has: train, test.: name one with --split"):
        open_classification(LabelledData(path, split="val"))
    other = write_parquet(tmp_path / "b.parquet", list("abab"), split=["x", "x", "y", "y"])
    with pytest.raises(OpenWITError, match="does not tell which split is held out"):
        open_classification(LabelledData(other))
    with pytest.raises(OpenWITError, match="no column split"):
        open_classification(LabelledData(write_parquet(tmp_path / "c.parquet", list("ab")), split="test"))


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"thumb": IMAGES, "full": IMAGES[::-1], "what": list("ababab")}), path)
    with pytest.raises(OpenWITError, match=r"2 columns of bytes \(thumb, full\)"):
        open_classification(LabelledData(path))
    with pytest.raises(OpenWITError, match="no column label or .*: name it with --label-column"):
        open_classification(LabelledData(path, image_column="full"))
    data = open_classification(LabelledData(path, image_column="full", label_column="what"))
    assert contents(data)[0] == (IMAGES[5], "a")
    with pytest.raises(OpenWITError, match="no column 'what' of bytes"):
        open_classification(LabelledData(path, image_column="what"))
    with pytest.raises(OpenWITError, match="labels are words or whole numbers"):
        open_classification(LabelledData(path, image_column="full", label_column="thumb"))


def test_a_folder_a_class(tmp_path: Path) -> None:
    for name, image in {
        "red_fox/b.JPG": b"1",
        "red_fox/a.png": b"2",
        "owl/x/c.webp": b"3",
        "owl/notes.txt": b"4",
    }.items():
        (tmp_path / "set" / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "val" / name).write_bytes(image)
    data = open_classification(LabelledData(tmp_path / "set"))
    assert data.title == "set/val"
    assert contents(data) == [(b"3", "owl"), (b"2", "red fox"), (b"1", "red fox")]
    assert data.key(0) == "owl/x/c.webp"
    names = tmp_path / "names.txt"
    names.write_text("eagle owl\nfox\n")
    renamed = open_classification(LabelledData(tmp_path / "set" / "val", classes=names))
    assert renamed.classes == ("eagle owl", "fox")
    with pytest.raises(OpenWITError, match="no folder test, so it has no split 'test'"):
        open_classification(LabelledData(tmp_path / "set", split="test"))


def test_tars_of_numbered_classes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_tar(folder / "test" / "0.tar", {"s0": {"cls": b"1", "jpg": b"one"}, "s1": {"jpg": b"none"}})
    write_tar(folder / "test" / "1.tar", {"s2": {"png": b"two", "cls": b" 0\n"}, "s3": {"cls": b"0", "json": b"{}"}})
    (folder / "test" / "2.tar").write_bytes(b"no header here" * 100)
    (folder / "classnames.txt").write_text("zero\nuno\n")
    data = open_classification(LabelledData(folder))
    assert data.title == "set/test"
    assert contents(data) == [(b"one", "uno"), (b"two", "zero")]
    assert data.left_out == {"no image": ["s3"], "damaged tar": ["2.tar"], "no label": ["s1"]}


def test_one_tar_of_words(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", {"x": {"jpg": b"1", "cls": "élan".encode()}, "y": {"jpg": b"2", "cls": b"cow"}}
    )
    assert contents(open_classification(LabelledData(path))) == [(b"1", "élan"), (b"2", "cow")]


def test_a_dataset_of_ours_with_classes(factory: SimpleNamespace, tmp_path: Path) -> None:
    samples = [factory.Made(f"k{number}", factory.jpeg(np.zeros((4, 4, 3), np.uint8)), ("t",)) for number in range(2)]
    folder = factory.write_dataset(tmp_path / "d", {"train": samples, "val": samples})
    with pytest.raises(OpenWITError, match=r"has 0 classes"):
        open_classification(LabelledData(folder))
    write_tar(folder / "val" / "00000.tar", {"k0": {"jpg": b"1", "cls": b"a"}, "k1": {"jpg": b"2", "cls": b"b"}})
    data = open_classification(LabelledData(folder))
    assert (data.title, contents(data)) == ("d/val", [(b"1", "a"), (b"2", "b")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 nothing", "no readable Parquet file"),
        ("a.tar", b"", "neither a tar that can be read, nor a Parquet file"),
        ("words.csv", b"image,label\n", "neither a tar that can be read, nor a Parquet file"),
        ("folder/x", b"", "neither tars, nor Parquet files, nor a folder for each class"),
    ],
)
def test_what_is_no_set(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(OpenWITError, match=message):
        open_classification(LabelledData(path.parent if path.name == "x" else path))
    with pytest.raises(OpenWITError, match="does not exist"):
        open_classification(LabelledData(tmp_path / "none"))


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.sampled_from(["a", "b", None]), min_size=2, max_size=6), rows=st.integers(1, 4))
def test_rows_in_are_images_and_reasons(
    labels: list[str | None], rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_parquet(tmp_path_factory.mktemp("p") / "a.parquet", pa.array(labels, pa.string()).to_pylist(), rows)
    if len({label for label in labels if label}) < 2:
        return
    data = open_classification(LabelledData(path))
    assert len(data) + sum(len(keys) for keys in data.left_out.values()) == len(labels)
    assert contents(data) == [(i, label) for i, label in zip(IMAGES, labels, strict=False) if label]


def test_a_limit_draws_from_the_whole_and_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = [name for name in "abcd" for _ in range(100)]
    pq.write_table(pa.table({"image": [bytes([n % 251]) for n in range(400)], "label": words}), path)
    data = open_classification(LabelledData(path))
    few = data.limited(80)
    assert len(few) == 80
    assert contents(few) == contents(data.limited(80))
    assert min(np.bincount(few.labels)) > 8
    assert set(few.keys) <= set(data.limited(200).keys)
    assert data.limited(400) is data
    assert data.limited(None) is data


def test_a_table_that_a_killed_process_left_half_written_is_not_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pets.parquet", ["dog", "cat"])
    (tmp_path / ".partial-1-pets.parquet").write_bytes(b"PAR1 cut off")
    assert len(open_classification(LabelledData(tmp_path))) == 2


def test_words_that_are_numbers_are_numbers(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "digits.parquet", ["1", " 0 ", "1", None, ""])
    with pytest.raises(OpenWITError, match="labels of .* are numbers, and no names come with them"):
        open_classification(LabelledData(path))
    names = tmp_path / "names.txt"
    names.write_text("zero\none\n")
    data = open_classification(LabelledData(path, classes=names))
    assert (data.labels.tolist(), data.left_out) == ([1, 0, 1], {"no label": ["row 3", "row 4"]})
    mixed = write_parquet(tmp_path / "mixed.parquet", ["one", "1", "zero"])
    assert open_classification(LabelledData(mixed)).classes == ("1", "one", "zero")
    assert open_classification(LabelledData(mixed, classes=names)).left_out == {"unknown class": ["row 1"]}


def test_a_list_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "pets.parquet", ["dog", "cat", "cow", "cow"])
    names = tmp_path / "names.txt"
    names.write_text("cow\ntruck\n")
    assert len(open_classification(LabelledData(path, classes=names))) == 2
    for content, message in (
        ("dog\ntruck\n", r"names\.txt does not name the classes of 3 images of .*, such as 'row 1'"),
        ("", r"names\.txt names 0 classes"),
        ("cow\n\ndog\n", r"names\.txt, line 2 is empty"),
        ('["cow", "", "dog"]', r"names\.txt, line 1 holds an empty text"),
    ):
        names.write_text(content)
        with pytest.raises(OpenWITError, match=message):
            open_classification(LabelledData(path, classes=names))


def test_rows_without_a_split_are_counted(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "pets.parquet", ["dog", "cat", "dog"], split=["test", "test", None])
    assert open_classification(LabelledData(path)).left_out == {"no split": ["row 2"]}
