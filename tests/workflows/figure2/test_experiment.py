"""A tiny experiment from settings to a filled page: it resumes, and its page says what it can separate."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.settings import load_settings
from openwit.workflows.figure2.__main__ import main
from openwit.workflows.figure2.curves import Curve, curves_of, reached, speed_ups
from openwit.workflows.figure2.report import load_result, render
from openwit.workflows.figure2.settings import Experiment, load_experiment

FOLDER = Path(__file__).parents[3] / "workflows" / "figure2"


def run_cli(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["figure2", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def write_experiment(folder: Path, dataset: Path, sections: dict[str, Any], **changes: Any) -> Path:
    """Settings of runs of a few steps, with a model of the smallest sizes."""
    objectives = ("captioning", "bag_of_words", "contrastive")
    for objective in objectives:
        raw = {
            **sections,
            "run": f"out/{objective}",
            "data": {"dataset": str(dataset), "batch_size": 24},
            "objective": {"name": objective},
            "schedule": {"duration": "6 steps"},
            "checkpoint": {"every": "3 steps", "keep": 20},
            "eval": {"split": None},
        }
        (folder / f"train-{objective}.yaml").write_text(yaml.safe_dump(raw))
    settings: dict[str, Any] = {
        "out": str(folder / "out"),
        "configurations": [f"train-{objective}.yaml" for objective in objectives],
        "seeds": [0, 1],
        "vocabulary": 530,
        "choice": 8,
        "retrieval_limit": 12,
        "zero_shot": str(folder / "colours.parquet"),
        **changes,
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def colours(factory: SimpleNamespace, tmp_path: Path) -> Path:
    values = {"red": (220, 30, 30), "blue": (40, 60, 220)}
    images = [factory.jpeg(np.full((32, 32, 3), value, np.uint8)) for value in values.values()]
    pq.write_table(pa.table({"image": images * 3, "label": list(values) * 3}), tmp_path / "colours.parquet")
    return tmp_path / "colours.parquet"


@pytest.mark.slow
def test_an_experiment_resumes_and_fills_a_page(
    colours: Path, dataset: Path, configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sections = configure()
    path = write_experiment(colours.parent, dataset, sections)
    out = tmp_path / "out"
    from openwit.workflows.figure2 import experiment as module

    fit, calls = module.fit, []

    def killed(config: Any, **options: Any) -> Any:
        calls.append(config.run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(config, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit", killed)
        assert run_cli("run", path, monkeypatch=patched) != 0
    assert len(list((out / "points").glob("*.json"))) == 4
    page = tmp_path / "page.md"
    marks = ("conditions", "accuracy", "speed", "separated", "figures")
    page.write_text("".join(f"<!-- figure2: {name} -->\nold\n<!-- /figure2 -->\n" for name in marks))
    assert run_cli("report", page, "--out", out, monkeypatch=monkeypatch) == 2
    assert "is not finished" in capsys.readouterr().err
    assert run_cli("run", path, monkeypatch=monkeypatch) == 0
    points = {each.name: each.stat().st_mtime_ns for each in (out / "points").glob("*.json")}
    assert len(points) == 12, "three objectives, two seeds, two checkpoints"
    first = json.loads((out / "points" / sorted(points)[0]).read_text())
    assert (first["objective"], first["samples"]) == ("bag_of_words", 72)
    assert set(first["metrics"]) == {"zero_shot", "choice_text_to_image", "choice_image_to_text"}
    assert run_cli("run", path, monkeypatch=monkeypatch) == 0
    assert points == {each.name: each.stat().st_mtime_ns for each in (out / "points").glob("*.json")}, "nothing anew"
    assert run_cli("report", page, "--out", out, monkeypatch=monkeypatch) == 0
    text = page.read_text()
    assert "old" not in text
    assert "| zero-shot accuracy | captioning | 144 |" in text
    assert text.count("recall@1, text to image | contrastive") == 1
    assert "comparisons are separated" in text
    figures = sorted((tmp_path / "images").glob("*.svg"))
    assert [each.name for each in figures][:2] == [
        "figure2-choice-image-to-text.svg",
        "figure2-choice-text-to-image.svg",
    ]
    assert len(figures) == 5
    assert all(f"images/{each.name}" in text for each in figures)
    assert run_cli("run", path, "--set", "choice=9", monkeypatch=monkeypatch) == 2
    assert "experiment of other settings" in capsys.readouterr().err
    with pytest.raises(DataError, match="'weather'"):
        render("<!-- figure2: weather -->\n<!-- /figure2 -->", load_result(out))
    next((out / "points").glob("contrastive-1*")).write_text("{")
    assert run_cli("report", page, "--out", out, monkeypatch=monkeypatch) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_settings_that_travel_are_a_fair_comparison() -> None:
    experiment, configs = load_experiment(FOLDER / "experiment.yaml")
    assert list(configs) == ["captioning", "bag_of_words", "contrastive"]
    assert len(experiment.seeds) == 3
    assert load_settings(FOLDER / "experiment.yaml", Experiment) == experiment


def test_unfair_comparisons_are_refused(
    dataset: Path, configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = write_experiment(tmp_path, dataset, configure())
    one = tmp_path / "train-contrastive.yaml"
    raw = yaml.safe_load(one.read_text())
    one.write_text(yaml.safe_dump({**raw, "optim": {"lr": 0.5}}))
    with pytest.raises(RecipeError, match="contrastive and captioning differ in optim"):
        load_experiment(path)
    one.write_text(yaml.safe_dump({**raw, "objective": {"name": "captioning"}}))
    with pytest.raises(RecipeError, match="two configurations train captioning"):
        load_experiment(path)
    with pytest.raises(RecipeError, match="seeds repeat: 1, 1"):
        load_experiment(path, ["seeds=[1,1]"])
    for arguments, sentence in (
        (["run", tmp_path / "none.yaml"], "none.yaml"),
        (["run", path, "--set", "split=no", "--set", "configurations=[train-captioning.yaml]"], "configurations"),
        (["report", tmp_path / "page.md", "--out", tmp_path / "none"], "holds no experiment"),
    ):
        capsys.readouterr()
        assert run_cli(*arguments, monkeypatch=monkeypatch) == 2
        assert sentence in capsys.readouterr().err


def curve(name: str, *rows: tuple[float, ...]) -> Curve:
    return Curve(name, (100, 200, 400), rows)


def test_the_factor_is_that_of_samples_at_equal_accuracy() -> None:
    slow = curve("slow", (0.12, 0.16, 0.2), (0.12, 0.16, 0.22))
    fast = curve("fast", (0.31, 0.4, 0.5), (0.31, 0.4, 0.52))
    assert reached((100, 200), (0.25, 0.5), 0.375, 0.0) == 150
    assert reached((100, 200), (0.25, 0.5), 0.125, 0.0) == 50
    assert reached((100, 200), (0.2, 0.4), 0.5, 0.1) is None
    (found,) = speed_ups([fast, slow], 0.01, 1000)
    assert (found.slow, found.fast, found.accuracy) == ("slow", "fast", pytest.approx(0.21))
    assert found.factor == pytest.approx(400 / (100 * (0.21 - 0.01) / (0.31 - 0.01)))
    assert len(found.by_seed) == 2
    assert found.difference is not None
    assert found.separated
    (chance,) = speed_ups([fast, slow], 0.2, 1000)
    assert (chance.factor, chance.above_chance) == (None, False)
    # Every seed gives one answer to all images: no spread, and as many right as that class has images.
    stuck = curve("stuck", (0.116,) * 3, (0.116,) * 3)
    (guesses,) = speed_ups([stuck, curve("other", (0.09,) * 3, (0.092,) * 3)], 0.1, 1000)
    assert guesses.difference is not None
    assert guesses.difference.shown
    assert (guesses.separated, guesses.above_chance, guesses.factor) == (False, False, None)
    (single,) = speed_ups([curve("a", (0.1, 0.2, 0.3)), curve("b", (0.1, 0.2, 0.2))], 0.05, 1000)
    assert (single.slow, single.difference) == ("b", None)


def test_a_point_that_not_every_seed_has_is_left_out() -> None:
    rows = [(0, 100), (0, 200), (1, 100), (1, 150), (1, 200)]
    points = [{"objective": "a", "seed": seed, "samples": at, "metrics": {"zero_shot": 0.1}} for seed, at in rows]
    assert curves_of(points, "zero_shot") == [Curve("a", (100, 200), ((0.1, 0.1), (0.1, 0.1)))]
    with pytest.raises(ValueError, match="no points in common"):
        curves_of([points[0], points[3]], "zero_shot")
    assert curves_of(points, "choice_text_to_image") == []
