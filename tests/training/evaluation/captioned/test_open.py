"""Sets of images and captions in every layout give the same samples; what is wrong with one is said in a sentence."""

import io
import json
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned

CAPTIONS = {"a": ("a red box", "red on white"), "b": ("a blue box",), "c": ("green", "a green box", "green")}


@pytest.fixture(scope="module")
def pictures(factory: SimpleNamespace) -> dict[str, bytes]:
    return {key: factory.jpeg(np.full((16, 20, 3), 60 * n, np.uint8)) for n, key in enumerate(CAPTIONS)}


def as_tars(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    (folder / "test").mkdir()
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for key, captions in CAPTIONS.items():
            for suffix, data in ((".jpg", pictures[key]), (".txt", "\n".join(captions).encode())):
                info = tarfile.TarInfo(key + suffix)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return CaptionedData(folder)


def as_parquet(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    rows = [
        {"key": key, "image": {"bytes": pictures[key]}, "captions": list(captions), "split": "test"}
        for key, captions in CAPTIONS.items()
    ]
    rows.append({"key": "d", "image": {"bytes": b""}, "captions": ["of the training split"], "split": "train"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "set.parquet")
    return CaptionedData(folder / "set.parquet")


def files_of(folder: Path, pictures: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for key, data in pictures.items():
        (folder / f"{key}.jpg").write_bytes(data)


def as_coco(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    files_of(folder / "val2017", pictures)
    images = [{"id": n, "file_name": f"{key}.jpg"} for n, key in enumerate(CAPTIONS)]
    notes = [{"image_id": n, "caption": text} for n, texts in enumerate(CAPTIONS.values()) for text in texts]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return CaptionedData(folder / "captions.json", images=folder / "val2017")


def as_karpathy(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    files_of(folder / "images", pictures)
    images = [
        {"filename": f"{key}.jpg", "split": "test", "sentences": [{"raw": text} for text in texts]}
        for key, texts in CAPTIONS.items()
    ]
    images.append({"filename": "d.jpg", "split": "train", "sentences": [{"raw": "x"}]})
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    return CaptionedData(folder / "dataset_flickr8k.json")


def as_table(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    files_of(folder, pictures)
    lines = [f"{key}.jpg,{text}" for key, texts in CAPTIONS.items() for text in texts]
    (folder / "set.csv").write_text("\n".join(["path,caption", *lines]))
    return CaptionedData(folder / "set.csv")


def as_folder(folder: Path, pictures: dict[str, bytes]) -> CaptionedData:
    files_of(folder, pictures)
    for key, texts in CAPTIONS.items():
        (folder / f"{key}.txt").write_text("\n".join(texts))
    return CaptionedData(folder)


@pytest.mark.parametrize("write", [as_tars, as_parquet, as_coco, as_karpathy, as_table, as_folder])
def test_every_layout_gives_the_same_samples(write, tmp_path: Path, pictures: dict[str, bytes]) -> None:
    said: list[str] = []
    found = open_captioned(write(tmp_path, pictures), said.append)
    samples = [found.sample(index) for index in range(len(found))]
    wanted = {key: tuple(dict.fromkeys(texts)) if write is as_table else texts for key, texts in CAPTIONS.items()}
    assert [sample.texts for sample in samples] == list(wanted.values())
    assert [sample.image for sample in samples] == list(pictures.values())
    assert [Path(found.key(index)).stem for index in range(3)] == list(CAPTIONS)
    assert len(said) == 1


def test_a_dataset_of_ours_is_read_by_its_held_out_split(dataset: Path) -> None:
    assert open_captioned(CaptionedData(dataset)).split == "val"
    assert open_captioned(CaptionedData(dataset, split="train")).split == "train"
    tars = open_captioned(CaptionedData(dataset / "val" / "*.tar"))
    assert tars.sample(0).texts == open_captioned(CaptionedData(dataset)).sample(0).texts


def test_what_cannot_be_read_is_said(tmp_path: Path, pictures: dict[str, bytes], dataset: Path) -> None:
    coco, karpathy = tmp_path / "coco", tmp_path / "karpathy"
    coco.mkdir()
    karpathy.mkdir()
    as_coco(coco, pictures)
    as_karpathy(karpathy, pictures)
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "cut.json").write_text('{"images": [')
    (tmp_path / "odd.csv").write_text("x,y\n1,2")
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    pq.write_table(pa.table({"image": [b"x"], "words": ["y"]}), tmp_path / "words.parquet")
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "cat" / "1.jpg").write_bytes(pictures["a"])
    wrong = [
        ("none", {}, "does not exist"),
        ("notes.txt", {}, "is of no known kind"),
        ("list.json", {}, "it is no JSON object"),
        ("cut.json", {}, "is no JSON"),
        ("odd.csv", {}, "set --image-column"),
        ("words.parquet", {}, "no column caption or captions or text or texts of captions"),
        ("bad.tar", {}, "the tars hold no samples"),
        ("classes", {}, "--image-to-image"),
        ("coco/captions.json", {"split": "test"}, "has no split 'test'"),
        ("coco/captions.json", {}, "name their folder with --images"),
        ("coco/captions.json", {"images": tmp_path / "none"}, "is not a folder"),
        ("karpathy/dataset_flickr8k.json", {"split": "val"}, "no split 'val', only test, train"),
        ("odd.csv", {"images": coco}, "--images is the folder"),
        ("bad.tar", {"split": "val"}, "has no splits"),
    ]
    for name, options, sentence in wrong:
        with pytest.raises(DataError) as caught:
            open_captioned(CaptionedData(tmp_path / name, **options))
        assert sentence in str(caught.value), name
        assert not re.search(r"(?<!meta)data\.[a-z]", str(caught.value))
    with pytest.raises(DataError, match="no split"):
        open_captioned(CaptionedData(dataset, split="test"))
