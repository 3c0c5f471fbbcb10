"""`wit-train evaluate` as a user calls it: what is missing is measured, what is done is kept, what fails is listed."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openwit.training.cli.main import main

COUNTING = """
from openwit.training.evaluation.measurements.registry import Figure, Measurement

calls = []


def count(context, *, unit=1.0):
    calls.append(context.data.name)
    if context.data.name == "bad":
        raise KeyError("nothing here")
    return Measurement({"<b>images": Figure(unit)}, 4)


def wrong(context):
    return 3


count.kind = "labelled"
"""


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def colours(factory: SimpleNamespace, tmp_path: Path) -> Path:
    """Twelve plain pictures of two colours in two splits, and one that is none."""
    values = {"red": (220, 30, 30), "blue": (40, 60, 220)}
    names = list(values) * 6
    images = [
        factory.jpeg(np.full((32, 40, 3), np.array(values[name]) - number, np.uint8))
        for number, name in enumerate(names)
    ]
    splits = ["train"] * 8 + ["test"] * 5
    path = tmp_path / "colours.parquet"
    pq.write_table(pa.table({"image": [*images, b"broken"], "label": [*names, "red"], "split": splits}), path)
    return path


@pytest.fixture
def run(configure: Any, tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(configure(schedule={"duration": "2 steps"}, eval={"split": None})))
    assert run_cli("fit", path) == 0
    return tmp_path / "run"


@pytest.fixture
def suite(tmp_path: Path, colours: Path, dataset: Path) -> Any:
    def write(**changed: Any) -> Path:
        path = tmp_path / "suite.yaml"
        base = {
            "datasets": [
                {"name": "colours", "data": str(colours)},
                {"name": "gone", "data": str(tmp_path / "gone.parquet")},
                {"name": "boxes", "kind": "captioned", "data": str(dataset), "split": "val"},
            ],
            "measurements": ["zero_shot", "retrieval", "probe", {"name": "few_shot", "shots": [2, 1], "seeds": 2}],
        }
        path.write_text(yaml.safe_dump({**base, **changed}))
        return path

    return write


def test_a_table_of_models_is_measured_kept_and_shown(run: Path, suite: Any, tmp_path: Path, capsys: Any) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(run, copy)
    asked = suite(models=[{"path": str(run), "name": "<first>"}])
    assert run_cli("evaluate", copy, tmp_path / "none", "--suite", asked, "--out", out) == 1
    said = capsys.readouterr().out
    assert f"failed: zero_shot of <first> on gone: {tmp_path / 'gone.parquet'} does not exist" in said
    assert "kept: zero_shot of" in said  # the copy has the same weights
    assert "8 done, 13 failed" in said
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert {(row["dataset"], row["status"]) for row in rows if row["model"] == "<first>"} == {
        ("colours", "done"),
        ("boxes", "done"),
        ("gone", "failed"),
    }
    zero = next(row for row in rows if row["metric"] == "accuracy" and row["measurement"] == "zero_shot")
    assert (zero["images"], zero["unreadable"], zero["level"], zero["chance"]) == (4, 1, 0.95, 0.5)
    assert zero["low"] <= zero["value"] <= zero["high"]
    record = json.loads((out / "results.json").read_text())
    first = record["cells"][0]
    assert first["unreadable"] == ["row 12"]
    assert first["data"] == zero["data_sha256"]
    assert first["details"]["classes"]
    shot = next(each for each in record["cells"] if each["measurement"] == "few_shot" and each["status"] == "done")
    assert list(shot["metrics"]) == ["accuracy_at_2", "accuracy_at_1"]
    page = (out / "index.html").read_text()
    assert "&lt;first&gt;" in page
    assert "<first>" not in page
    assert "Failed or missing (13)" in page
    assert "prefers-color-scheme" in page
    assert "http" not in page

    written = {name: (out / name).read_bytes() for name in ("results.parquet", "results.json", "index.html")}
    assert run_cli("evaluate", copy, tmp_path / "none", "--suite", asked, "--out", out) == 1
    assert capsys.readouterr().out.count(" kept: ") == 8
    assert written == {name: (out / name).read_bytes() for name in written}


def test_what_changes_is_measured_again_and_what_failed_is_tried_again(
    run: Path, suite: Any, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "counting_measures.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    out, bad = tmp_path / "out", tmp_path / "bad.parquet"
    bad.write_bytes(b"no parquet")
    datasets = [{"name": "colours", "data": str(colours)}, {"name": "bad", "data": str(bad)}]

    def evaluate(**settings: Any) -> tuple[int, list[str]]:
        measurement = {"name": "counting_measures.count", "label": "count", **settings}
        import counting_measures  # type: ignore[import-not-found]

        counting_measures.calls.clear()
        asked = suite(datasets=datasets, measurements=[measurement])
        return run_cli("evaluate", run, "--suite", asked, "--out", out), list(counting_measures.calls)

    assert evaluate() == (1, ["colours", "bad"])
    assert "failed: count of" in capsys.readouterr().out
    assert evaluate() == (1, ["bad"])
    assert evaluate(unit=2.5) == (1, ["colours", "bad"])
    assert evaluate(unit=2.5, datasets=["colours"]) == (0, [])
    (cell,) = json.loads((out / "results.json").read_text())["cells"]
    assert cell["metrics"]["<b>images"]["value"] == 2.5
    table = pq.read_table(colours)
    pq.write_table(table.slice(0, 12), colours)
    assert evaluate(unit=2.5, datasets=["colours"]) == (0, ["colours"])
    kept = out / "cells" / f"{cell['key']}.json"
    kept.write_text('{"half')  # as a broken disk leaves it
    pq.write_table(table, colours)
    assert evaluate(unit=2.5, datasets=["colours"]) == (0, ["colours"])


def test_a_function_that_returns_something_else_is_a_failed_cell(
    run: Path, suite: Any, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "wrong_measures.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = suite(datasets=[{"name": "colours", "data": str(colours)}], measurements=["wrong_measures.wrong"])
    assert run_cli("evaluate", run, "--suite", asked, "--out", tmp_path / "out") == 1
    assert "'wrong_measures.wrong' returned a int, not a Measurement" in capsys.readouterr().out


CAPTIONED = {"name": "boxes", "kind": "captioned", "data": "x"}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"measurements": ["zeroshot"]}, "'zeroshot' must be one of zero_shot, retrieval, probe, few_shot"),
        ({"measurements": []}, "measurements"),
        ({"datasets": []}, "datasets"),
        ({"datasets": [{"name": "a"}]}, "give either data, or known with root"),
        ({"datasets": [{"name": "a", "data": "x", "images": "y"}]}, "images cannot be given for labelled images"),
        ({"datasets": [{**CAPTIONED, "classes": "y"}]}, "classes cannot be given for captioned images"),
        ({"datasets": [{"name": "a", "data": "x"}, {"name": "a", "data": "y"}]}, "'a' is there twice"),
        ({"datasets": [CAPTIONED], "measurements": ["probe"]}, "no dataset of the suite is labelled"),
        ({"measurements": ["probe", "probe"]}, "'probe' is there twice: give one of them a label"),
        ({"measurements": [{"name": "probe", "datasets": ["x"]}]}, "there is no dataset 'x'; there are: boxes, "),
        ({"measurements": [{"name": "probe", "datasets": ["boxes"]}]}, "the dataset 'boxes' is not labelled"),
        ({"measurements": [{"name": "few_shot", "shots": [0]}]}, "shots"),
        ({"measurements": ["no.such.function"]}, "there is no module"),
        ({"measurements": [{"name": "shutil.copytree", "unit": 1}]}, "cannot be called with"),
        ({"model": []}, "model"),
    ],
)
def test_a_bad_suite_is_refused_in_a_sentence_before_anything_is_computed(
    changed: dict[str, Any], sentence: str, suite: Any, tmp_path: Path, capsys: Any
) -> None:
    assert run_cli("evaluate", tmp_path / "run", "--suite", suite(**changed), "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_models_and_no_suite(suite: Any, tmp_path: Path, capsys: Any) -> None:
    assert run_cli("evaluate", "--suite", suite(), "--out", tmp_path / "out") == 2
    assert "the suite has no models" in capsys.readouterr().err
    assert run_cli("evaluate", "--suite", tmp_path / "none.yaml", "--out", tmp_path / "out") == 2
    assert "none.yaml does not exist" in capsys.readouterr().err
