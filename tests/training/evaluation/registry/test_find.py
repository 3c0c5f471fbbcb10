import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.cli.main import main
from openwit.training.config.choices import Metric
from openwit.training.evaluation.prompts import NAMED
from openwit.training.evaluation.registry.find import locate, locate_one, take_inventory
from openwit.training.evaluation.registry.table import find_known, known_datasets


def test_the_table_is_consistent() -> None:
    table = known_datasets()
    assert sum(known.paper for known in table) == 27
    names = [name for known in table for name in (known.name, *known.aliases)]
    assert len(set(names)) == len(names)
    for known in table:
        assert known.prompts in NAMED, known.name
        assert known.tests
        for split in known.splits:
            assert all(images > 0 and source for images, source in known.published(split).items())
    metrics = {known.name: known.metric for known in table if known.metric is not Metric.ACCURACY}
    assert metrics == {  # the paper's, table 9
        "fgvc_aircraft": Metric.MEAN_PER_CLASS,
        "pets": Metric.MEAN_PER_CLASS,
        "caltech101": Metric.MEAN_PER_CLASS,
        "flowers": Metric.MEAN_PER_CLASS,
        "voc2007": Metric.MAP_11,
        "hateful_memes": Metric.ROC_AUC,
        "kinetics700": Metric.MEAN_TOP1_TOP5,
    }
    assert find_known("wds/vtab/flowers") is find_known("Oxford_Flowers")
    with pytest.raises(OpenWITError, match="no dataset 'flower' is known"):
        find_known("flower")


def write(path: Path, rows: int, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [b"x"] * rows, "label": ["a", "b"] * (rows // 2), **columns}), path)
    return path


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_found_counted_compared_and_missing(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "cifar10.parquet", 4, split=["train", "train", "train", "test"])
    write(tmp_path / "stl10" / "part-0.parquet", 8000)
    (tmp_path / "wds_imagenet-a" / "test").mkdir(parents=True)
    (tmp_path / "wds_imagenet-a" / "test" / "0.tar").write_bytes(b"damaged" * 200)
    out = tmp_path / "found.json"
    assert run_cli("datasets", tmp_path, "--out", out) == 0
    said = capsys.readouterr().out
    assert "cifar10, train: 3 images here, published are 50,000 (the dataset's own page or paper)" in said
    assert "1 damaged tar" in said
    assert "not here, of the paper's: food101, cifar100, birdsnap" in said
    record = json.loads(out.read_text())
    assert {each["name"]: each["images"] for each in record["found"]} == {
        "cifar10": {"test": 1, "train": 3},
        "stl10": {"all": 8000},
        "imagenet-a": {"test": 0},
    }
    assert len(record["found"]) + len(record["missing"]) == len(known_datasets())
    assert run_cli("datasets", tmp_path / "none") == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run_cli("datasets", tmp_path / "empty") == 0
    assert "holds none of the known datasets" in capsys.readouterr().out


def test_names_of_exports_and_folders(tmp_path: Path) -> None:
    for name in ("wds_voc2007", "wds_voc2007_multilabel", "wds_vtab-svhn_test", "vtab-dtd"):
        (tmp_path / name / "test").mkdir(parents=True)
        (tmp_path / name / "test" / "0.tar").write_bytes(b"")
    found = {known.name: [one.path.name for one in locate(tmp_path, known)] for known in known_datasets()}
    assert {name: paths for name, paths in found.items() if paths} == {
        "voc2007": ["wds_voc2007_multilabel"],
        "voc2007_cropped": ["wds_voc2007"],
        "svhn": ["wds_vtab-svhn_test"],
        "dtd": ["vtab-dtd"],
    }
    with pytest.raises(OpenWITError, match="holds no Food-101: looked for wds_food101, wds_vtab-food101, food-101,"):
        locate_one(tmp_path, find_known("food101"))
    assert take_inventory(tmp_path, [find_known("mnist")]).found == []


def test_what_has_the_name_of_a_dataset_but_is_none(tmp_path: Path) -> None:
    (tmp_path / "mnist").symlink_to(tmp_path / "nowhere")
    (tmp_path / "stl10.parquet").write_bytes(b"no table")
    (tmp_path / "dtd").write_text("a file")
    (tmp_path / "food101").mkdir()
    (tmp_path / "pets" / "test").mkdir(parents=True)
    (tmp_path / "wds_cars" / "test").mkdir(parents=True)
    os.mkfifo(tmp_path / "svhn")
    assert take_inventory(tmp_path).found == []
    with pytest.raises(OpenWITError, match="is no folder"):
        take_inventory(tmp_path / "dtd")


def test_an_export_without_labelled_images(tmp_path: Path) -> None:
    folder = tmp_path / "wds_mnist" / "test"
    folder.mkdir(parents=True)
    (folder / "0.tar").write_bytes(bytes(10240))
    (folder.parent / "classnames.txt").write_text("zero\none\n")
    found = take_inventory(tmp_path, [find_known("mnist")]).found
    assert [each.counts for each in found] == [{"test": 0}]
    assert "mnist, test: 0 images here, published are 10,000" in found[0].warnings[0]
    with pytest.raises(OpenWITError, match="split .test. of .*wds_mnist holds no images"):
        locate_one(tmp_path, find_known("mnist")).open()


def test_what_has_the_name_and_cannot_be_read_is_named(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "stl10.parquet").write_bytes(b"PAR1 damaged")
    (tmp_path / "dtd").mkdir()
    assert run_cli("datasets", tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    for path in ("stl10.parquet", "dtd"):
        assert f"{tmp_path / path} has the name of a known dataset, but holds none of its layouts" in said
    with pytest.raises(OpenWITError, match=r"stl10\.parquet has the name of STL-10, but holds none of its layouts"):
        locate_one(tmp_path, find_known("stl10"))
    with pytest.raises(OpenWITError, match=r"looked for wds_pets, .*, pets and pets\.parquet"):
        locate_one(tmp_path, find_known("pets"))
