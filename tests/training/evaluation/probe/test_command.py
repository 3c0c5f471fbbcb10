"""`wit-train probe` as a user calls it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from openwit.training.cli.main import main
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.models.clip import Clip
from openwit.training.models.weights import save_safetensors

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def colours(factory: SimpleNamespace, tmp_path: Path) -> Path:
    """Noisy pictures of three colours in two splits, with one of each split that is none."""
    rng = np.random.default_rng(0)
    names = [*list(COLOURS) * 10, *list(COLOURS) * 4]
    images = [
        factory.jpeg(np.clip(np.array(COLOURS[name]) + rng.normal(0, 9, (24, 24, 3)), 0, 255).astype(np.uint8))
        for name in names
    ]
    images[1] = images[31] = b"broken"
    path = tmp_path / "colours.parquet"
    splits = ["train"] * 30 + ["test"] * 12
    pq.write_table(pa.table({"image": images, "label": names, "split": splits}), path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vision = VisionSpec(image_size=16, patch_size=8, width=128, layers=1, heads=2)
    spec = ClipSpec(embed_dim=16, vision=vision, text=TextSpec(width=64, layers=1, heads=1))
    path = tmp_path / "weights.safetensors"
    save_safetensors(Clip(spec), path)
    return path


def test_a_probe_with_its_baselines(weights: Path, colours: Path, tmp_path: Path, capsys: Any) -> None:
    out, head, kept = tmp_path / "probe.json", tmp_path / "head.npz", tmp_path / "features"
    call = ["probe", weights, "--data", colours, "--baselines", "--features", kept, "--out", out, "--head", head]
    assert run_cli(*call) == 0
    said = capsys.readouterr().out
    assert "left out: unreadable 1 training and 1 test images" in said
    record = json.loads(out.read_text())
    assert [each["encoder"] for each in record["probes"]] == ["model", "random weights, seed 0", "raw pixels"]
    assert record["probes"][0]["unreadable"] == {"train": ["row 1"], "test": ["row 31"]}
    assert record["probes"][0]["images"] == {"train": 23, "validation": 6, "test": 11}
    assert record["probes"][2]["test"]["value"] == 1
    assert len(record["probes"][0]["sweep"]) <= 15
    assert record["weights_file"] == "weights.safetensors"
    with np.load(head) as file:
        assert file["weights"].shape == (3, 128)
        assert json.loads(str(file["about"]))["classes"] == ["blue", "green", "red"]
    before = out.read_text()
    assert run_cli(*call) == 0
    assert out.read_text() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train-split", "test"], "is to be both trained and measured on"),
        (["--metric", "f1"], "'f1' is not one of"),
        (["--metric", "roc_auc"], "roc_auc is for two classes, not 3"),
        (["--val-split", "none"], "has no split 'none'"),
    ],
)
def test_mistakes_are_one_sentence(options: list[str], words: str, weights: Path, colours: Path, capsys: Any) -> None:
    assert run_cli("probe", weights, "--data", colours, *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_another_sets_classes_are_refused(weights: Path, colours: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other.parquet"
    table = pq.read_table(colours)
    words = ["pink" if word == "red" else word for word in table["label"].to_pylist()]
    pq.write_table(table.set_column(1, "label", pa.array(words)), other)
    assert run_cli("probe", weights, "--data", other, "--train", colours, "--train-split", "train") == 2
    assert "they do not match: 'pink'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("shared", "code"), [(1, 0), (2, 2)])
def test_test_images_that_are_trained_on(
    shared: int, code: int, weights: Path, factory: SimpleNamespace, tmp_path: Path, capsys: Any
) -> None:
    rng = np.random.default_rng(1)
    names = list(COLOURS) * 50
    images = [factory.jpeg(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in names]
    images[40 : 40 + shared] = images[:shared]
    path = tmp_path / "noise.parquet"
    pq.write_table(pa.table({"image": images, "label": names, "split": ["train"] * 40 + ["test"] * 110}), path)
    sentence = f"{shared} of the 110 images of noise/test are among those of noise/train, which are trained on"
    for command in (["probe"], ["few-shot", "--shots", "1", "--seeds", "1"]):
        assert run_cli(command[0], weights, "--data", path, *command[1:]) == code
        said = capsys.readouterr()
        assert sentence in " ".join((said.err if code else said.out).split())
    out = tmp_path / "probe.json"
    if code == 0:
        assert run_cli("probe", weights, "--data", path, "--out", out) == 0
        assert sentence in json.loads(out.read_text())["shared_images"][0]
