"""Accuracy on clean and overlapping images: counts against scipy, and the command from a report to a page."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import binomtest

from openwit.schemas.tables.overlap import OVERLAP
from openwit.training.cli.main import main
from openwit.training.config import ModelSettings, objective_settings
from openwit.training.config.zoo import ClipSpec
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.overlap.analysis import compare, corrected
from openwit.training.evaluation.overlap.matching import CHANGED, NOT_THERE, match
from openwit.training.evaluation.overlap.pictures import evenly
from openwit.training.evaluation.overlap.report import read_report
from openwit.training.models.clip import Clip
from openwit.training.models.weights import save_safetensors
from openwit.training.objectives.registry import make_model


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def images(factory: SimpleNamespace) -> list[bytes]:
    """Twelve pictures, of which two are the same bytes and the last one is broken."""
    rng = np.random.default_rng(0)
    made = [factory.jpeg(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)) for _ in range(11)]
    made[4] = made[3]
    return [*made, b"broken"]


@pytest.fixture
def evaluation(images: list[bytes], tmp_path: Path) -> Path:
    path = tmp_path / "eval.parquet"
    pq.write_table(pa.table({"image": images, "label": ["red", "blue"] * 6}), path)
    return path


def write_report(path: Path, images: list[bytes], shared: set[int], file: str = "eval.parquet", **pair: Any) -> Path:
    rows = []
    for number, image in enumerate(images):
        row = {
            "evaluation_file": file,
            "evaluation_member": str(number),
            "evaluation_sha256": hashlib.sha256(image).hexdigest(),
        }
        found = {
            "sample_uid": f"u{number}",
            "sample_file": "gone.tar",
            "sample_place": 512,
            "sample_url": "http://x/<b>",
            "sample_text": "a <script> \u202e",
            "variant": "same",
            "distance": number % 5,
            **pair,
        }
        rows.append({**row, **(found if number in shared else {})})
    OVERLAP.write(path, pa.Table.from_pylist(rows, schema=OVERLAP.arrow))
    return path


def results(path: Path, right: list[int], keys: list[str] | None = None) -> Path:
    keys = keys or [f"row {number}" for number in range(len(right))]
    lines = ["key,correct", *(f"{key},{value}" for key, value in zip(keys, right, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_comparison_is_scipys() -> None:
    rng = np.random.default_rng(1)
    overlap = rng.random(900) < 0.1
    right = rng.random(900) < np.where(overlap, 0.9, 0.7)
    found = compare(right, overlap)
    assert found.clean.accuracy == right[~overlap].mean()
    assert found.difference == pytest.approx(right.mean() - right[~overlap].mean())
    wanted = binomtest(int(right[overlap].sum()), int(overlap.sum()), found.clean.accuracy, alternative="greater")
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-9)
    interval = binomtest(int(right[overlap].sum()), int(overlap.sum())).proportion_ci(0.995, "exact")
    assert (found.overlap_low, found.overlap_high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    one, other, nothing = corrected([found, found, compare(right, np.zeros(900, bool))])
    assert one == other
    assert one.p_corrected == pytest.approx(3 * wanted.pvalue)
    assert (one.significant, one.tests) == (bool(3 * wanted.pvalue < 0.05), 3)
    assert (nothing.p_value, nothing.p_corrected, nothing.difference, nothing.significant) == (None, None, 0, False)
    everything = compare(right, np.ones(900, bool))
    assert (everything.clean.accuracy, everything.difference, everything.p_value) == (None, None, None)
    with pytest.raises(ValueError, match="answers for"):
        compare(right[:0], overlap[:0])


def opened(path: Path) -> ClassificationSet:
    return open_classification(LabelledData(path))


def test_images_are_matched_by_checksum_and_the_rest_is_named(
    evaluation: Path, images: list[bytes], tmp_path: Path
) -> None:
    others = [*images, b"another", b"more"]
    others[0] = b"changed since"
    report = read_report(write_report(tmp_path / "r.parquet", others, {1, 3, 4}))
    found = match(opened(evaluation), report, "r.parquet")
    assert found.rows.tolist() == [-1, *range(1, 12)]
    assert np.flatnonzero(found.overlap).tolist() == [1, 3, 4]
    assert found.unmatched == {CHANGED: ["row 0"]}
    assert found.unused == 3
    short = read_report(write_report(tmp_path / "s.parquet", images[:7], {1}))
    assert match(opened(evaluation), short, "s").unmatched == {NOT_THERE: [f"row {number}" for number in range(7, 12)]}


def test_a_command_from_results(evaluation: Path, images: list[bytes], tmp_path: Path, capsys: Any) -> None:
    report = write_report(tmp_path / "r.parquet", images, {1, 2, 3, 4})
    right = results(tmp_path / "right.csv", [0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1])
    out, page, plot = (tmp_path / name for name in ("out.json", "page.html", "plot.svg"))
    command = ["overlap", "--data", evaluation, "--report", report, "--results", right]
    assert run_cli(*command, "--out", out, "--page", page, "--plot", plot, "--pairs", 3) == 0
    assert "no result in the file" in capsys.readouterr().out
    (record,) = json.loads(out.read_text())["results"]
    assert record["overlap"] == {"images": 4, "right": 4, "accuracy": 1.0}
    assert record["clean"] == {"images": 7, "right": 2, "accuracy": 2 / 7}
    assert record["left_out"] == {"no result in the file": ["row 11"]}
    assert record["p_value"] == pytest.approx(binomtest(4, 4, 2 / 7, alternative="greater").pvalue)
    text = page.read_text()
    assert "3 of 4 pairs" in text
    assert text.count("data:image/jpeg") == 3
    assert text.count("not here any more") == 3
    assert "<script>" not in text
    assert "\u202e" not in text
    assert plot.read_text().startswith("<svg")
    again = tmp_path / "again.html"
    assert run_cli(*command, "--page", again, "--pairs", 3) == 0
    assert again.read_bytes() == page.read_bytes()


def test_several_sets_of_a_model(
    evaluation: Path, images: list[bytes], tmp_path: Path, configure: Any, capsys: Any
) -> None:
    spec = ClipSpec.model_validate(configure()["model"]["spec"])
    torch.manual_seed(0)
    model = make_model(ModelSettings(spec=spec), objective_settings("contrastive"))
    assert isinstance(model, Clip)
    weights = tmp_path / "model.safetensors"
    save_safetensors(model, weights)
    report = write_report(tmp_path / "r.parquet", images, {1, 2})
    none = write_report(tmp_path / "none.parquet", images, set())
    other_set = shutil.copy(evaluation, tmp_path / "again.parquet")
    sets = ["--data", evaluation, "--report", report, "--data", other_set, "--report", none]
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    assert run_cli("overlap", weights, *sets, "--out", out, "--page", page) == 0
    said = capsys.readouterr().out
    assert "left out: 1 unreadable (row 11)" in said
    assert "Bonferroni over 2 evaluation sets" in said
    one, other = json.loads(out.read_text())["results"]
    assert (one["all"]["images"], one["overlap"]["images"], one["tests"]) == (11, 2, 2)
    assert one["weights_file"] == "model.safetensors"
    assert one["p_corrected"] == min(1, 2 * one["p_value"])
    assert (other["overlap"]["images"], other["p_value"], other["difference"]) == (0, None, 0)
    assert "0 pairs" in page.read_text()


def test_bad_input_is_a_sentence(evaluation: Path, images: list[bytes], tmp_path: Path, capsys: Any) -> None:
    report = write_report(tmp_path / "r.parquet", images, {1})
    foreign = write_report(tmp_path / "foreign.parquet", [b"one", b"two"], {1})
    nothing = write_report(tmp_path / "nothing.parquet", [], set())
    right = results(tmp_path / "right.csv", [1] * 12)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bare.csv").write_text("key,score\nrow 0,3\n")
    base = ["--data", evaluation, "--report"]
    wrong = [
        ([*base, report], "give a model, or results"),
        ([*base, report, "--report", report, "--results", right], "1 evaluation set (--data) and 2 reports"),
        ([*base, report, "--results", right, "--results", right], "2 files of results"),
        ([*base, report, "--results", right, "--prompts", "name"], "--prompts is for models"),
        ([*base, foreign, "--results", right], "reports another evaluation set than eval: by checksum it holds 0 of"),
        ([*base, nothing, "--results", right], "names no evaluation image"),
        ([*base, evaluation, "--results", right], "column 'evaluation_file' is missing"),
        ([*base, tmp_path / "gone", "--results", right], "gone does not exist"),
        ([*base, report, "--results", tmp_path / "gone.csv"], "gone.csv does not exist"),
        ([*base, report, "--results", tmp_path / "empty.csv"], "cannot be read"),
        ([*base, report, "--results", tmp_path / "bare.csv"], "has no column correct"),
        ([*base, report, "--results", report], "no column key"),
        ([*base, report, "--results", tmp_path], "results are a table"),
        ([*base, report, "--results", results(tmp_path / "a.csv", [2] * 12)], "holds 2"),
        ([*base, report, "--results", results(tmp_path / "b.csv", [1, 1], ["row 1"] * 2)], "several results for"),
        ([*base, report, "--results", results(tmp_path / "c.csv", [1], ["x"])], "no result for an image"),
        ([tmp_path / "none", *base, report], "none does not exist"),
        ([*base, report, *base, report, "--results", right, "--results", right], "eval.parquet is given twice"),
        ([*base, report, "--results", right, "--page", tmp_path], "is a folder: give the name of a file in it"),
        ([*base, report, "--results", right, "--out", right / "x.json"], "right.csv is no folder"),
    ]
    for arguments, sentence in wrong:
        capsys.readouterr()
        assert run_cli("overlap", *arguments) == 2, sentence
        said = " ".join(capsys.readouterr().err.split())
        assert sentence in said, (sentence, said)
        assert "Traceback" not in said


def test_results_of_other_images_are_said(evaluation: Path, images: list[bytes], tmp_path: Path, capsys: Any) -> None:
    report = write_report(tmp_path / "r.parquet", images, {1})
    right = results(tmp_path / "right.csv", [1] * 13, [f"row {number}" for number in range(13)])
    assert run_cli("overlap", "--data", evaluation, "--report", report, "--results", right) == 0
    assert "right.csv: 1 result of images not in eval, such as 'row 12'" in " ".join(capsys.readouterr().out.split())


def test_numbers_are_spread_evenly() -> None:
    assert list(evenly(3, 5)) == [0, 1, 2]
    assert list(evenly(10, 4)) == [0, 2, 5, 7]
    assert list(evenly(10, 0)) == []
