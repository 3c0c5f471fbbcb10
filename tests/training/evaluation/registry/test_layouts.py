"""Each layout as its dataset has it, from a few made images."""

import csv
import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.registry.find import locate_one
from openwit.training.evaluation.registry.table import KnownDataset, find_known

RNG = np.random.default_rng(0)


def picture(path: Path, value: int = 7) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    return path.name


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name, labels in {"data_batch_1": [1, 0], "data_batch_2": [1], "test_batch": [0, 1]}.items():
        data = np.full((len(labels), 3072), 9, np.uint8)
        data[:, :1024] = np.array(labels)[:, None] * 100  # red
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    np.zeros((2, 3, 96, 96), np.uint8).tofile(folder / "test_X.bin")
    np.array([2, 1], np.uint8).tofile(folder / "test_y.bin")
    text(folder / "class_names.txt", "airplane", "bird")


def mnist(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in {
        "t10k-images-idx3-ubyte": np.zeros((2, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.array([7, 0], np.uint8),
    }.items():
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes()))


def svhn(root: Path) -> None:
    io_module = pytest.importorskip("scipy.io")
    io_module.savemat(root / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[10], [3]])})


def fer2013(root: Path) -> None:
    folder = root / "fer2013"
    folder.mkdir()
    pixels = " ".join(["5"] * 48 * 48)
    with (folder / "fer2013.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["emotion", "pixels", "Usage"])
        table.writerows([[3, pixels, "Training"], [1, pixels, "PublicTest"], [0, "1 2", "PrivateTest"]])
    text(folder / "classnames.txt", "angry", "disgusted", "fearful", "happy")


def food101(root: Path) -> None:
    folder = root / "food-101"
    for name in ("apple_pie", "sushi"):
        picture(folder / "images" / name / "1.jpg")
    (folder / "meta").mkdir()
    (folder / "meta" / "test.json").write_text(
        json.dumps({"sushi": ["sushi/1", "sushi/2"], "apple_pie": ["apple_pie/1"]})
    )


def dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    for name in ("banded", "polka-dotted"):
        picture(folder / "images" / name / f"{name}_1.jpg")
    text(folder / "labels" / "test1.txt", "banded/banded_1.jpg", "polka-dotted/polka-dotted_1.jpg")


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    picture(data / "images" / "01.jpg")
    picture(data / "images" / "02.jpg")
    text(data / "variants.txt", "707-320", "Boeing 717")
    text(data / "images_variant_test.txt", "01 Boeing 717", "02 707-320")


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for name in ("Abyssinian_1.jpg", "great_pyrenees_2.jpg"):
        picture(folder / "images" / name)
    text(folder / "annotations" / "test.txt", "Abyssinian_1 1 1 1", "great_pyrenees_2 2 2 1")


def flowers(root: Path) -> None:
    io_module = pytest.importorskip("scipy.io")
    folder = root / "flowers-102"
    for number in (1, 2, 3):
        picture(folder / "jpg" / f"image_{number:05d}.jpg")
    io_module.savemat(folder / "imagelabels.mat", {"labels": np.array([[2, 1, 2]])})
    io_module.savemat(folder / "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[3, 2]]})
    text(folder / "classnames.txt", "pink primrose", "hard-leaved pocket orchid")


def cars(root: Path) -> None:
    io_module = pytest.importorskip("scipy.io")
    folder = root / "stanford_cars"
    picture(folder / "cars_test" / "1.jpg")
    (folder / "devkit").mkdir()
    annotations = np.array([("1.jpg", 2)], dtype=[("fname", object), ("class", object)])
    io_module.savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations})
    names = np.array(["AM General Hummer", "Acura RL"], dtype=object)
    io_module.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})


def gtsrb(root: Path) -> None:
    folder = root / "gtsrb"
    for name in ("0.ppm", "1.ppm"):
        picture(folder / "GTSRB" / "Final_Test" / "Images" / name)
    text(folder / "GT-final_test.csv", "Filename;Width;ClassId", "0.ppm;5;1", "1.ppm;5;0")
    text(folder / "GTSRB" / "classnames.txt", "speed limit", "stop")


def voc(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2007"
    for name in ("000001.jpg", "000002.jpg"):
        picture(folder / "JPEGImages" / name)
    main = folder / "ImageSets" / "Main"
    text(main / "cat_test.txt", "000001  1", "000002 -1")
    text(main / "dog_test.txt", "000001  0", "000002  1")
    text(main / "test.txt", "000001", "000002")


def hateful_memes(root: Path) -> None:
    folder = root / "hateful_memes"
    picture(folder / "img" / "1.png")
    picture(folder / "img" / "2.png")
    rows = [{"id": 1, "img": "img/1.png", "label": 1, "text": "a"}, {"id": 2, "img": "img/2.png", "label": 0}]
    text(folder / "dev.jsonl", *map(json.dumps, rows))
    text(folder / "test.jsonl", *map(json.dumps, rows))


def sun397(root: Path) -> None:
    folder = root / "SUN397"
    text(folder / "ClassName.txt", "/a/abbey", "/c/church/indoor")
    picture(folder / "a" / "abbey" / "sun_1.jpg")
    picture(folder / "c" / "church" / "indoor" / "sun_2.jpg")


def renderedsst2(root: Path) -> None:
    for name in ("negative", "positive"):
        picture(root / "rendered-sst2" / "test" / name / "1.png")
        picture(root / "rendered-sst2" / "valid" / name / "1.png")


def eurosat(root: Path) -> None:
    for name in ("Forest", "SeaLake"):
        picture(root / "eurosat" / "2750" / name / f"{name}_1.jpg")


def resisc45(root: Path) -> None:
    for name in ("airport", "ice_rink"):
        picture(root / "NWPU-RESISC45" / name / "1.jpg")


def pcam(root: Path) -> None:
    """CLIP_benchmark's export."""
    folder = root / "wds_vtab-pcam" / "test"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for key, label in {"s0": b"1", "s1": b"0"}.items():
            for name, data in {f"{key}.webp": b"RIFF", f"{key}.cls": label}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    text(folder / "nshards.txt", "1")
    text(folder.parent / "classnames.txt", "lymph node", "lymph node with tumour")


def cifar100(root: Path) -> None:
    table = pa.table(
        {"image": [b"1", b"2", b"3"], "label": ["apple", "bee", "bee"], "split": ["test", "test", "train"]}
    )
    pq.write_table(table, root / "CIFAR-100.parquet")


CASES: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "cifar10": (cifar10, "test", ["airplane", "automobile"]),
    "stl10": (stl10, "test", ["bird", "airplane"]),
    "mnist": (mnist, "test", ["7", "0"]),
    "svhn": (svhn, "test", ["0", "3"]),
    "fer2013": (fer2013, "test", ["disgusted"]),
    "food101": (food101, "test", ["apple pie", "sushi"]),
    "dtd": (dtd, "test", ["banded", "polka-dotted"]),
    "fgvc_aircraft": (aircraft, "test", ["Boeing 717", "707-320"]),
    "pets": (pets, "test", ["Abyssinian", "great pyrenees"]),
    "flowers": (flowers, "test", ["hard-leaved pocket orchid", "pink primrose"]),
    "cars": (cars, "test", ["Acura RL"]),
    "gtsrb": (gtsrb, "test", ["stop", "speed limit"]),
    "hateful_memes": (hateful_memes, "test", ["hateful", "harmless"]),
    "sun397": (sun397, "all", ["abbey", "church indoor"]),
    "renderedsst2": (renderedsst2, "test", ["negative", "positive"]),
    "eurosat": (eurosat, "all", ["Forest", "SeaLake"]),
    "resisc45": (resisc45, "all", ["airport", "ice rink"]),
    "pcam": (pcam, "test", ["lymph node with tumour", "lymph node"]),
    "cifar100": (cifar100, "test", ["apple", "bee"]),
}


@pytest.mark.parametrize("name", CASES)
def test_images_and_classes_of_each_layout(name: str, tmp_path: Path) -> None:
    make, split, expected = CASES[name]
    make(tmp_path)
    located = locate_one(tmp_path, find_known(name))
    assert split in located.splits
    data = located.open(None if split == "all" else split)
    assert [data.classes[label] for label in data.labels] == expected
    if name not in ("pcam", "cifar100"):  # their bytes are no pictures here
        for index in range(len(data)):
            with Image.open(io.BytesIO(data.sample(index).image)) as image:
                image.load()
    published = located.known.published("test" if split == "all" else split)
    if split == "test":
        assert published
        assert any("published are" in note for note in data.notes)


def test_pixels_of_cifar_are_in_place(tmp_path: Path) -> None:
    cifar10(tmp_path)
    located = locate_one(tmp_path, find_known("CIFAR-10"))
    assert located.splits == ("train", "test")
    data = located.open("train")
    assert data.labels.tolist() == [1, 0, 1]
    with Image.open(io.BytesIO(data.sample(0).image)) as image:
        assert (image.size, image.getpixel((31, 0))) == ((32, 32), (100, 9, 9))


def test_what_voc_does_not_judge(tmp_path: Path) -> None:
    voc(tmp_path)
    data = locate_one(tmp_path, find_known("voc2007")).open()
    assert data.truth is not None
    assert data.truth.tolist() == [[1, -1], [0, 1]]
    assert data.classes == ("cat", "dog")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("run",))

    cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(OpenWITError, match="is no batch of CIFAR: it would call builtins.print"):
        locate_one(tmp_path, find_known("cifar10")).open("test")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cifar10", "cifar-10-batches-py/test_batch", b"", "is no batch of CIFAR"),
        ("cifar10", "cifar-10-batches-py/test_batch", pickle.dumps({"data": 3}), "is no batch of CIFAR"),
        ("stl10", "stl10_binary/test_X.bin", b"123", "are not 2 images of 96 x 96"),
        ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte.gz", b"\x1f\x8bno", "is damaged"),
        (
            "mnist",
            "MNIST/raw/t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\0\0\x08\x01\0\0\0\x09", mtime=0),
            "is no idx file",
        ),
        ("food101", "food-101/meta/test.json", b"{", "no readable JSON"),
        ("pets", "oxford-iiit-pet/annotations/test.txt", b"Abyssinian_1\n", "has no number of a class"),
        ("hateful_memes", "hateful_memes/test.jsonl", b"{}\n", "line 1 has no img and label"),
        ("svhn", "test_32x32.mat", b"no", "no readable MATLAB file"),
    ],
)
def test_damaged_files_are_named(name: str, file: str, content: bytes, message: str, tmp_path: Path) -> None:
    CASES[name][0](tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(OpenWITError, match=message) as caught:
        locate_one(tmp_path, find_known(name)).open("test")
    assert Path(file).name.partition(".")[0] in str(caught.value)


def test_a_list_of_another_set_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "made" / "test" / name / "1.png")
    names = tmp_path / "names.txt"
    known = KnownDataset.model_validate(
        {"name": "made", "title": "Made", "classes": 3, "tests": ["x"], "prompts": "photo", "splits": {}}
    )
    text(names, "one", "two")
    located = locate_one(tmp_path, known)
    assert any("has 2 class names, but Made has 3" in note for note in located.open().notes)
    with pytest.raises(OpenWITError, match="names.txt is the list of another set"):
        located.open(classes=names)
    with pytest.raises(OpenWITError, match="has no split 'val' .it has: test."):
        located.open("val")
