"""Sets whose images may have several classes, from the file to the metric."""

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
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.choices import Metric
from openwit.training.config.zoo import InputSpec
from openwit.training.evaluation.classification_data import open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.zero_shot import Answers, classify
from openwit.training.evaluation.zero_shot_result import SeveralResult, ZeroShotResult, gain, summarise, summarise_set

IMAGES = [bytes([number]) * 3 for number in range(6)]
NAMES = ["cat", "dog", "owl"]


def opened(path: Path, labels: pa.Array, **kwargs: Any) -> Any:
    pq.write_table(pa.table({"image": IMAGES[: len(labels)], "labels": labels}), path)
    return open_classification(LabelledData(path, **kwargs))


def test_lists_of_words_and_numbers(tmp_path: Path) -> None:
    data = opened(tmp_path / "a.parquet", pa.array([["cat", "dog"], ["owl"], [], None, ["dog"]]))
    assert data.classes == ("cat", "dog", "owl")
    assert data.truth.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert data.labels.tolist() == [-1] * 4
    assert data.left_out == {"no label": ["row 3"]}
    few = data.limited(2)
    assert few.truth.tolist() == [data.truth[data.keys.index(key)].tolist() for key in few.keys]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    data = opened(tmp_path / "b.parquet", pa.array([[0, 1], [-1], [2]]), classes=names)
    assert data.truth.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert data.left_out == {"unknown class": ["row 1"]}
    with pytest.raises(OpenWITError, match="1 labels of .* are out of range, such as 7 of 'row 1'"):
        opened(tmp_path / "c.parquet", pa.array([[0, 1], [7], [2]]), classes=names)


def test_marks_per_class_with_some_not_judged(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    marks = pa.array([[1.0, 0, -1], [0.0, 1, 1], [0.0, 1], [0.0, None, 1]])
    data = opened(tmp_path / "a.parquet", marks, classes=names)
    assert data.truth.tolist() == [[1, 0, -1], [0, 1, 1]]
    assert data.left_out == {"unknown class": ["row 2"], "no label": ["row 3"]}
    for soft in (0.5, float("nan"), 2.0):
        with pytest.raises(OpenWITError, match=r"mark each class by 1, 0 or -1, and \[0\.0, .*\] has other numbers"):
            opened(tmp_path / "soft.parquet", pa.array([[1.0, 0, -1], [0.0, soft, 1]]), classes=names)
    data = opened(tmp_path / "b.parquet", pa.array([[True, False, True], [False, True, False]]), classes=names)
    assert data.truth.tolist() == [[1, 0, 1], [0, 1, 0]]
    with pytest.raises(OpenWITError, match="has one twice: store marks of 0 and 1 per class as bool or float"):
        opened(tmp_path / "c.parquet", pa.array([[1, 0, 0], [0, 1, 0]]), classes=names)


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_clip_benchmarks_export_of_several_labels(tmp_path: Path) -> None:
    folder = tmp_path / "wds_voc2007_multilabel" / "test"
    folder.mkdir(parents=True)
    samples = {
        "s0": npy(np.array([1.0, 0, 1], np.float32)),
        "s1": npy(np.array([0.0, 1, 0])),
        "s2": b"\x93NUMPY broken",
    }
    samples["s3"] = npy(np.array([{}], dtype=object))
    with tarfile.open(folder / "0.tar", "w") as tar:
        for key, label in samples.items():
            for suffix, data in (("webp", IMAGES[0]), ("npy", label)):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (folder / "nshards.txt").write_text("2\n")
    (folder.parent / "classnames.txt").write_text("\n".join(NAMES))
    data = open_classification(LabelledData(folder.parent))
    assert data.truth is not None
    assert data.truth.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert data.left_out == {"no label": ["s2", "s3"]}
    assert data.notes == (f"{folder / 'nshards.txt'} says 2 tars, but there are 1: the set is not whole",)


def answers_of(scores: list[list[float]], truth: list[list[int]]) -> Answers:
    count = len(scores)
    nothing = np.full(count, -1)
    return Answers(nothing, nothing, nothing, [], np.array(scores, np.float32), np.array(truth, np.int8))


def test_each_class_is_ranked_apart() -> None:
    data: Any = SimpleNamespace(truth=np.zeros((3, 2)), classes=("cat", "dog"), title="made")
    answers = answers_of([[0.9, 0.1], [0.8, 0.5], [0.1, 0.7]], [[1, 0], [0, 1], [1, 1]])
    result = summarise_set(answers, data)
    assert isinstance(result, SeveralResult)
    assert result.metric is Metric.MAP_11
    assert result.map.value == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert [each.images for each in result.classes] == [2, 2]
    assert result.classes[1].average_precision == 1
    assert set(result.metrics()) == {"zero_shot_map_11_point", "zero_shot_map"}
    assert summarise_set(answers, data, Metric.ROC_AUC).headline.value == pytest.approx((0.5 + 1) / 2)
    with pytest.raises(OpenWITError, match="may have several classes: metric accuracy must be one of roc_auc"):
        summarise_set(answers, data, Metric.ACCURACY)
    with pytest.raises(OpenWITError, match="metric map cannot be computed"):
        summarise_set(answers_of([[1.0, 0]], [[0, 0]]), data, Metric.MAP)
    assert gain(answers, answers) is None


def test_main_metrics_of_one_class_an_image() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.2]], np.float32)
    answers = Answers(labels, np.array([0, 1, 0, 0]), np.array([0, 1, 1, 1]), [], scores)
    found = summarise(answers, ("no", "yes"), Metric.ROC_AUC)
    assert found.headline.value == pytest.approx(0.5)
    assert found.metrics()["zero_shot_roc_auc"] == pytest.approx(0.5)
    assert summarise(answers, ("no", "yes"), Metric.MEAN_PER_CLASS).headline.value == 0.75
    assert summarise(answers, ("no", "yes"), Metric.MEAN_TOP1_TOP5).headline.value == pytest.approx(0.875)
    assert 0.5 < summarise(answers, ("no", "yes"), Metric.MAP).headline.value < 1
    data: Any = SimpleNamespace(truth=None, classes=("a", "b", "c"), title="made")
    with pytest.raises(OpenWITError, match="roc_auc is that of two classes"):
        summarise_set(answers, data, Metric.ROC_AUC)
    better = Answers(labels, np.zeros(4, int), labels, [])
    gained = gain(better, answers)
    assert gained is not None
    assert gained.value == 0.25
    assert gained.low <= 0.25 <= gained.high


def test_an_unreadable_image_takes_its_truth_with_it(factory: SimpleNamespace, tmp_path: Path) -> None:
    pictures = [factory.jpeg(np.full((8, 8, 3), value, np.uint8)) for value in (10, 100, 200)]
    table = pa.table({"image": [pictures[0], b"broken", *pictures[1:]], "labels": [["a"], ["b"], ["a", "b"], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    data = open_classification(LabelledData(tmp_path / "a.parquet"))

    def brightness(pixels: Any) -> torch.Tensor:
        mean = torch.from_numpy(pixels.astype(np.float32)).mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)

    answers = classify(data, brightness, inputs=InputSpec(image_size=8, context_length=8), batch_size=2)
    assert answers.truth is not None
    assert answers.truth.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert answers.unreadable == ["row 1"]
    result = summarise_set(answers, data)
    assert not isinstance(result, ZeroShotResult)
    assert result.images == 3
    assert json.dumps(result.metrics())
