"""`wit-train robustness` as a user calls it."""

import json
import xml.etree.ElementTree as ET
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


def table(path: Path, factory: SimpleNamespace, names: list[str], splits: list[str], noise: float) -> Path:
    rng = np.random.default_rng(len(names))
    images = [
        factory.jpeg(np.clip(np.array(COLOURS[name]) + rng.normal(0, noise, (24, 24, 3)), 0, 255).astype(np.uint8))
        for name in names
    ]
    pq.write_table(pa.table({"image": images, "label": names, "split": splits}), path)
    return path


def test_before_and_after_a_probed_head(factory: SimpleNamespace, tmp_path: Path, capsys: Any) -> None:
    base = table(tmp_path / "base.parquet", factory, list(COLOURS) * 8, ["train"] * 15 + ["test"] * 9, 9)
    shifted = table(tmp_path / "shifted.parquet", factory, ["red", "blue"] * 4, ["test"] * 8, 60)
    spoiled = pq.read_table(shifted)
    broken = pa.table({"image": [b"no image"], "label": ["red"], "split": ["test"]}, schema=spoiled.schema)
    pq.write_table(pa.concat_tables([spoiled, broken]), shifted)
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        vision = VisionSpec(image_size=16, patch_size=8, width=64, layers=1, heads=1)
        spec = ClipSpec(embed_dim=16, vision=vision, text=TextSpec(width=64, layers=1, heads=1))
        paths.append(tmp_path / f"{seed}.safetensors")
        save_safetensors(Clip(spec), paths[-1])
    out, plot = tmp_path / "first.json", tmp_path / "plot.svg"
    call = ["robustness", paths[0], "--base", base, "--shifted", shifted, "--out", out]
    assert run_cli(*call, "--train", base, "--train-split", "train") == 0
    said = capsys.readouterr().out
    assert "a line needs two baselines" in said
    assert "1 images of the shifted set cannot be read: " in said
    record = json.loads(out.read_text())
    assert record["shared_classes"] == ["blue", "red"]
    read = {which: record[which] for which in ("base", "shifted", "train")}
    assert [(each["images"], len(each["unreadable"])) for each in read.values()] == [(9, 0), (8, 1), (15, 0)]
    assert len({each["sha256"] for each in read.values()}) == 3
    assert "8" in read["shifted"]["unreadable"][0]
    zero, probed = (each["accuracy"] for each in record["models"])
    assert (zero["base_images"], zero["shifted_images"]) == (6, 8)
    assert probed["before"] == zero["model"]
    assert record["models"][1]["relative"] == pytest.approx(probed["shifted"] - zero["shifted"])
    again = []
    for number, each in enumerate(record["models"]):
        changed = {"model": f"m{number}", "before": None, "base": 0.4 + number / 5}
        again.append({**each, "accuracy": {**each["accuracy"], **changed}})
    out.write_text(json.dumps({**record, "models": again}))
    later = tmp_path / "later.json"
    call = ["robustness", paths[1], "--base", base, "--shifted", shifted, "--baseline", out]
    assert run_cli(*call, "--out", later, "--plot", plot) == 0
    assert "line of 2 baselines" in capsys.readouterr().out
    assert json.loads(later.read_text())["models"][2]["effective"] is not None
    ET.fromstring(plot.read_text())
    for text, words in (("{}", "is no result of wit-train robustness"), ("x", "cannot be read as JSON")):
        (tmp_path / "bad.json").write_text(text)
        assert run_cli(*call[:-1], tmp_path / "bad.json") == 2
        assert words in " ".join(capsys.readouterr().err.split())
    (tmp_path / "bad.json").write_text('{"red": 3}')
    assert run_cli(*call[:-2], "--mapping", tmp_path / "bad.json") == 2
    assert "must be a name or a list of names" in " ".join(capsys.readouterr().err.split())
