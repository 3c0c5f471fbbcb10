"""One registry: its measurements in a suite, during training on one and on two processes, and as commands."""

import hashlib
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.nursery import Nursery

from openwit.schemas.tables.overlap import OVERLAP
from openwit.training.cli.main import main
from openwit.training.config.measurements import MEASUREMENTS
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.evaluation.measurements.registry import code_of
from openwit.training.models.clip import Clip
from openwit.training.models.weights import save_safetensors
from openwit.training.run.logs import read_metrics

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def table(path: Path, factory: SimpleNamespace, names: list[str], splits: list[str]) -> Path:
    rng = np.random.default_rng(len(names))
    images = [
        factory.jpeg(np.clip(np.array(COLOURS[name]) + rng.normal(0, 20, (24, 24, 3)), 0, 255).astype(np.uint8))
        for name in names
    ]
    pq.write_table(pa.table({"picture": images, "kind": names, "split": splits}), path)
    return path


@pytest.fixture
def colours(factory: SimpleNamespace, tmp_path: Path) -> Path:
    names = list(COLOURS) * 8
    return table(tmp_path / "colours.parquet", factory, names, ["train"] * 15 + ["test"] * 9)


@pytest.fixture
def weights(tmp_path: Path) -> list[Path]:
    import torch

    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        vision = VisionSpec(image_size=16, patch_size=8, width=64, layers=1, heads=1)
        spec = ClipSpec(embed_dim=16, vision=vision, text=TextSpec(width=64, layers=1, heads=1))
        paths.append(tmp_path / f"{seed}.safetensors")
        save_safetensors(Clip(spec), paths[-1])
    return paths


COLUMNS = {"image_column": "picture", "label_column": "kind"}


def test_every_entry_has_its_code() -> None:
    for name, entry in MEASUREMENTS.items():
        code = code_of(name)
        assert callable(code.open_data), name
        assert callable(code.measure), name
        assert entry.settings.model_fields["name"].default == name
        assert entry.main


def overlap_report(colours: Path, path: Path) -> Path:
    """Write the report of the images, of which every third is shown by a training image."""
    rows = []
    for number, image in enumerate(pq.read_table(colours)["picture"].to_pylist()):
        digest = hashlib.sha256(image).hexdigest()
        row = {"evaluation_file": "colours.parquet", "evaluation_member": str(number), "evaluation_sha256": digest}
        rows.append({**row, "sample_uid": None if number % 3 else f"u{number}", "variant": "same", "distance": 0})
    OVERLAP.write(path, pa.Table.from_pylist(rows, schema=OVERLAP.arrow))
    return path


def test_shifts_and_images_of_images_in_a_suite(
    colours: Path, weights: list[Path], factory: SimpleNamespace, tmp_path: Path, capsys: Any
) -> None:
    shifted = table(tmp_path / "shifted.parquet", factory, ["red", "blue"] * 4, ["test"] * 8)
    suite, report = tmp_path / "suite.yaml", overlap_report(colours, tmp_path / "report.parquet")
    datasets = [
        {"name": "base", "data": str(colours), "report": str(report), **COLUMNS},
        {"name": "shifted", "data": str(shifted), "base": "base", **COLUMNS},
    ]
    measurements: list[Any] = ["image_to_image", {"name": "robustness", "probed": True}, "overlap"]
    suite.write_text(yaml.safe_dump({"datasets": datasets, "measurements": measurements}))
    out = tmp_path / "out"
    assert run_cli("evaluate", *weights, "--suite", suite, "--out", out) == 0, capsys.readouterr()
    cells = json.loads((out / "results.json").read_text())["cells"]
    found = {(cell["dataset"], cell["measurement"]): cell for cell in cells}
    assert set(found) == {
        ("base", "image_to_image"),
        ("shifted", "image_to_image"),
        ("shifted", "robustness"),
        ("base", "overlap"),
    }
    assert list(found["base", "image_to_image"]["metrics"]) == ["recall_at_1", "recall_at_5", "recall_at_10"]
    overlap = found["base", "overlap"]["metrics"]
    assert next(iter(overlap)) == "difference"
    assert overlap["overlap_share"]["value"] == pytest.approx(3 / 9)
    assert overlap["overlap_accuracy"]["level"] == 0.995
    robust = found["shifted", "robustness"]["metrics"]
    assert next(iter(robust)) == "shifted_accuracy"
    assert robust["probed_relative_robustness"]["value"] == pytest.approx(
        robust["probed_shifted_accuracy"]["value"] - robust["shifted_accuracy"]["value"]
    )
    # The line of a suite's models in another suite. Untrained models may have one accuracy on the base set, through
    # which no line goes, so theirs are set apart.
    document = json.loads((out / "results.json").read_text())
    for number, cell in enumerate(each for each in document["cells"] if each["measurement"] == "robustness"):
        for model in cell["details"]["models"]:
            model["accuracy"]["base"] = 0.4 + number / 5
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "results.json").write_text(json.dumps(document))
    measurements[1]["baselines"] = [str(earlier)]
    suite.write_text(yaml.safe_dump({"datasets": datasets, "measurements": measurements[1:2]}))
    assert run_cli("evaluate", weights[0], "--suite", suite, "--out", tmp_path / "second") == 0, capsys.readouterr()
    (cell,) = json.loads((tmp_path / "second" / "results.json").read_text())["cells"]
    assert cell["details"]["line"]["points"] == 2
    assert "effective_robustness" in cell["metrics"]
    # An edited base is measured again; a moved one is not.
    suite.write_text(yaml.safe_dump({"datasets": datasets, "measurements": ["robustness"]}))
    assert run_cli("evaluate", weights[0], "--suite", suite, "--out", out) == 0
    assert " kept: " not in capsys.readouterr().out
    moved = colours.rename(tmp_path / "moved.parquet")
    datasets[0]["data"] = str(moved)
    suite.write_text(yaml.safe_dump({"datasets": datasets, "measurements": ["robustness"]}))
    assert run_cli("evaluate", weights[0], "--suite", suite, "--out", out) == 0
    assert "1/1 kept: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "measurement", "words"),
    [
        ({"base": "none"}, "robustness", "the base 'none' of 'one' must be another labelled dataset"),
        ({}, "robustness", "no dataset of the suite has base"),
        ({}, {"name": "overlap", "datasets": ["one"]}, "'one' has no report, which overlap needs"),
        ({"mapping": "m.json"}, "zero_shot", "mapping is for a dataset with base"),
        ({"kind": "captioned", "report": "r.parquet"}, "retrieval", "report cannot be given for captioned images"),
    ],
)
def test_suites_that_cannot_be(
    dataset: dict[str, Any], measurement: Any, words: str, tmp_path: Path, capsys: Any
) -> None:
    suite = tmp_path / "suite.yaml"
    first = {"name": "one", "data": "one.parquet", **dataset}
    suite.write_text(yaml.safe_dump({"datasets": [first], "measurements": [measurement]}))
    assert run_cli("evaluate", "model.pt", "--suite", suite, "--out", tmp_path / "out") == 2
    assert words in " ".join(capsys.readouterr().err.split())


def listed(colours: Path) -> list[dict[str, Any]]:
    place = {"data": str(colours), **COLUMNS}
    return [
        {"name": "probe", "every": "2 steps", **place},
        {"name": "few_shot", "shots": [1, 2], "seeds": 2, **place},
        {"name": "image_to_image", **place, "every": "3 steps"},
        {"name": "probe", "layer": "projected", **place},
    ]


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for record in read_metrics(run):
        if record["kind"] == "eval":
            found.setdefault(record["step"], {}).update(
                {key: value for key, value in record.items() if key not in ("kind", "step", "time")}
            )
    return found


def test_probes_while_training_at_their_own_intervals(
    configure: Any, colours: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "train.yaml"
    log = {"every": 1, "line_seconds": 1000, "tensorboard": True}
    sections = configure(eval={"evaluators": listed(colours)}, schedule={"duration": "3 steps"}, log=log)
    path.write_text(yaml.safe_dump(sections))
    assert run_cli("fit", path) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert "step 2: probe on " in said
    assert "(chance 33.33%)" in said
    found = evaluations(tmp_path / "run")
    assert "probe_accuracy" in found[2]
    assert {"probe_accuracy", "probe_accuracy_2", "few_shot_accuracy_at_2", "image_to_image_recall_at_1"} <= set(
        found[3]
    )
    assert all(0 <= value <= 1 for value in found[3].values())
    without = configure(run=str(tmp_path / "without"), eval={"split": None}, schedule={"duration": "3 steps"})
    path.write_text(yaml.safe_dump(without))
    assert run_cli("fit", path) == 0, capsys.readouterr()
    losses = [
        [record["loss"] for record in read_metrics(tmp_path / name) if record["kind"] == "train"]
        for name in ("run", "without")
    ]
    assert losses[0] == losses[1]
    events = b"".join(each.read_bytes() for each in (tmp_path / "run").rglob("events*"))
    assert b"few_shot_accuracy_at_1" in events


def test_data_of_an_evaluator_are_checked_before_training(
    configure: Any, colours: Path, tmp_path: Path, capsys: Any
) -> None:
    cases = [
        ({"name": "probe", "data": "none.parquet"}, "eval.evaluators.0 (probe): none.parquet does not exist"),
        ({"name": "few_shot", "data": str(colours)}, "name it with --label-column"),
        ({"name": "probe"}, "give either data, or known with root"),
        ({"name": "overlap", "data": str(colours)}, "name 'overlap' must be one of retrieval, zero_shot, probe"),
    ]
    for entry, words in cases:
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(configure(eval={"evaluators": [entry]})))
        assert run_cli("fit", path) == 2
        assert words in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_probes_of_two_processes_are_those_of_one(
    configure: Any, colours: Path, tmp_path: Path, nursery: Nursery, capsys: Any
) -> None:
    runs = {}
    for name in ("alone", "replicate", "fsdp"):
        sections = configure(
            run=str(tmp_path / name),
            eval={"evaluators": listed(colours)[::2], "batch_size": 4},
            schedule={"duration": "1 steps"},
            distributed={} if name == "alone" else {"strategy": name},
        )
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sections))
        if name == "alone":
            assert run_cli("fit", path) == 0, capsys.readouterr()
        else:
            ended = nursery.pair(path)
            assert [code for code, _, _ in ended] == [0, 0], ended
        runs[name] = evaluations(tmp_path / name)[1]
    for name in ("replicate", "fsdp"):
        assert runs[name].keys() == runs["alone"].keys()
        for key, value in runs["alone"].items():
            # The weights differ in the last bits: one of nine test images may fall on the other side.
            assert runs[name][key] == pytest.approx(value, abs=0.12), key


@pytest.mark.slow
def test_images_that_cannot_be_read_end_both_processes_in_one_sentence(
    configure: Any, colours: Path, tmp_path: Path, nursery: Nursery
) -> None:
    spoiled = pq.read_table(colours)
    bad = pa.array([b"no image"] * len(spoiled))
    pq.write_table(spoiled.set_column(0, "picture", bad), tmp_path / "bad.parquet")
    evaluators = [{"name": "probe", "data": str(tmp_path / "bad.parquet"), **COLUMNS}]
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(configure(eval={"evaluators": evaluators}, schedule={"duration": "1 steps"})))
    ended = nursery.pair(path)
    assert [code for code, _, _ in ended] == [2, 2], ended
    said = " ".join("".join(wrong for _, _, wrong in ended).split())
    assert said.count(f"probe on {tmp_path / 'bad.parquet'}: none of the 15 images can be read") == 1
    assert "Traceback" not in said


def test_probes_of_a_known_dataset_and_models_as_baselines(
    factory: SimpleNamespace, weights: list[Path], tmp_path: Path, capsys: Any
) -> None:
    root = tmp_path / "sets"
    names = list(COLOURS) * 8
    for split, some, first in (("train", names[:15], 0), ("test", names[15:], 15)):
        for number, name in enumerate(some, first):
            path = root / "cifar10" / split / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(factory.jpeg(np.full((24, 24, 3), np.array(COLOURS[name]) - number, np.uint8)))
    out = tmp_path / "probe.json"
    assert run_cli("probe", weights[0], "--dataset", "cifar10", "--root", root, "--out", out) == 0, capsys.readouterr()
    assert json.loads(out.read_text())["probes"][0]["images"]["test"] == 9
    few = ["few-shot", weights[0], "--dataset", "cifar10", "--root", root, "--shots", "1", "--seeds", "1"]
    assert run_cli(*few) == 0
    capsys.readouterr()
    for call, words in (
        (["probe", weights[0]], "give either --data PATH, or --dataset NAME"),
        ([*few, "--train", root], "--train and --val are for --data"),
        (["probe", weights[0], "--dataset", "cifar10", "--root", tmp_path / "none"], "is no folder"),
        (["probe", weights[0], "--dataset", "nothing", "--root", root], "nothing"),
    ):
        assert run_cli(*call) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    sets = root / "cifar10"
    call = ["robustness", *weights, "--base", sets, "--shifted", sets, "--shifted-split", "train"]
    assert run_cli(*call, "--baseline", weights[0].name, "--out", out) == 0
    assert "a line needs two baselines" in capsys.readouterr().out
    accuracies = [each["accuracy"] for each in json.loads(out.read_text())["models"]]
    assert [each["is_baseline"] for each in accuracies] == [True, False]
    assert run_cli(*call, "--train", sets, "--train-split", "train") == 2
    assert "of cifar10/train are among those of cifar10/train, which" in " ".join(capsys.readouterr().err.split())
    assert run_cli("robustness", weights[0], "--base", sets, "--shifted", sets) == 2
    assert "has the images of the base set cifar10/test" in " ".join(capsys.readouterr().err.split())
    assert run_cli(*call, "--baseline", "nothing") == 2
    assert "nothing is neither a MODEL of this command" in " ".join(capsys.readouterr().err.split())


def test_images_without_captions_are_embedded(
    factory: SimpleNamespace, colours: Path, weights: list[Path], tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(COLOURS.values()):
        (folder / f"{number}.jpg").write_bytes(factory.jpeg(np.full((24, 24, 3), colour, np.uint8)))
    (folder / "bad.jpg").write_bytes(b"no image")
    out = tmp_path / "vectors"
    assert run_cli("embed", weights[0], folder, "--out", out) == 0, capsys.readouterr()
    said = " ".join(capsys.readouterr().out.split())
    assert "4 images without captions, so only images are embedded" in said
    assert "3 rows of images" in said
    assert "1 unreadable" in said
    assert not list(out.rglob("text_emb*"))
    assert run_cli("search", out, "--image", folder / "1.jpg", "--contact-sheet", tmp_path / "sheet.png") == 0
    assert "1.jpg" in capsys.readouterr().out
    assert run_cli("embed", weights[0], colours, "--split", "test", "--out", tmp_path / "rows") == 0
    assert "9 images without captions" in " ".join(capsys.readouterr().out.split())
    with tarfile.open(tmp_path / "photos-0.tar", "w") as tar:
        for each in sorted(folder.iterdir()):
            tar.add(each, each.name)
    assert run_cli("embed", weights[0], tmp_path / "photos-*.tar", "--out", tmp_path / "tars") == 0
    assert "3 rows of images" in " ".join(capsys.readouterr().out.split())
    captioned = table(tmp_path / "captioned.parquet", factory, ["red", "green"], ["test"] * 2)
    rows = pq.read_table(captioned).append_column("caption", pa.array(["a red square", None]))
    pq.write_table(rows, captioned)
    for of, count in (("both", 1), ("images", 2)):
        out = tmp_path / f"of-{of}"
        columns = ["--image-column", "picture", "--out", out, "--of", of]
        assert run_cli("embed", weights[0], captioned, *columns) == 0, capsys.readouterr()
        assert f"{count} rows of images" in " ".join(capsys.readouterr().out.split())
    green = tmp_path / "green.jpg"
    green.write_bytes(rows["picture"][1].as_py())
    sheet = tmp_path / "sheet-of-images.png"
    assert run_cli("search", tmp_path / "of-images", "--image", green, "--contact-sheet", sheet) == 0
    assert "no longer holds every image" not in " ".join(capsys.readouterr().out.split())
    inside = folder / "vectors"
    for said in ("wrote", "nothing to do"):
        assert run_cli("embed", weights[0], folder, "--out", inside) == 0, capsys.readouterr()
        assert said in " ".join(capsys.readouterr().out.split())
    pq.write_table(rows.set_column(0, "picture", pa.array([b"other", b"bytes"])), captioned)
    assert run_cli("embed", weights[0], captioned, *columns) == 2
    assert "holds embeddings with another data.files" in " ".join(capsys.readouterr().err.split())
    assert run_cli("embed", weights[0], folder, "--out", tmp_path / "none", "--of", "texts") == 2
    assert "has no captions to embed" in " ".join(capsys.readouterr().err.split())


def test_weights_that_are_not_finite_are_not_measured(
    colours: Path, weights: list[Path], tmp_path: Path, capsys: Any
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights[0])
    tensors = {name: torch.full_like(value, torch.nan) for name, value in tensors.items()}
    path = tmp_path / "nan.safetensors"
    save_file(tensors, path)
    columns = ["--image-column", "picture"]
    labelled = ["--data", colours, *columns, "--label-column", "kind"]
    captions = pq.read_table(colours).rename_columns(["picture", "caption", "split"])
    pq.write_table(captions, tmp_path / "captions.parquet")
    for call in (
        ["zero-shot", path, *labelled],
        ["probe", path, *labelled],
        ["retrieval", path, "--data", tmp_path / "captions.parquet", *columns, "--out", tmp_path],
        ["retrieval", path, "--image-to-image", "--group-column", "kind", "--data", colours, *columns],
        ["embed", path, tmp_path / "captions.parquet", *columns, "--out", tmp_path / "vectors"],
    ):
        assert run_cli(*call) == 2, call
        assert "not finite" in " ".join(capsys.readouterr().err.split()), call
