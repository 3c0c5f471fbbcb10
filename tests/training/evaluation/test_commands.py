"""`wit-train zero-shot` and `wit-train retrieval` as a user calls them."""

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
import yaml

from openwit.training.checkpoints.files import FOLDER, load_checkpoint
from openwit.training.checkpoints.load import load_model
from openwit.training.cli.main import main
from openwit.training.models.clip import Clip
from openwit.training.models.weights import save_safetensors
from openwit.training.run.logs import read_metrics


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def colours(factory: SimpleNamespace, tmp_path: Path) -> Path:
    """Eight plain pictures of four colours, and one that is none."""
    values = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
    names = list(values) * 2
    images = [factory.jpeg(np.full((32, 40, 3), values[name], np.uint8)) for name in names]
    path = tmp_path / "colours.parquet"
    pq.write_table(pa.table({"image": [*images, b"broken"], "label": [*names, "red"]}), path)
    return path


@pytest.fixture
def fit(configure: Any, tmp_path: Path) -> Any:
    def run(**sections: Any) -> Path:
        path = tmp_path / "train.yaml"
        base = {"schedule": {"duration": "4 steps"}, "eval": {"split": None}}
        path.write_text(yaml.safe_dump(configure(**{**base, **sections})))
        assert run_cli("fit", path) == 0
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(
    "objective", ["contrastive", "sigmoid", "bag_of_words", "captioning", "contrastive_captioning"]
)
def test_zero_shot_of_a_run(objective: str, fit: Any, colours: Path, tmp_path: Path, capsys: Any) -> None:
    run = fit(objective={"name": objective})
    out = tmp_path / "zero.json"
    assert run_cli("zero-shot", run, "--data", colours, "--prompts", "cifar10", "--out", out) == 0
    said = capsys.readouterr().out
    assert "left out: 1 unreadable" in said
    assert "step 4, 96 samples seen; 4 classes, prompts cifar10 (18)" in said
    assert ("in which short and common names" in said) == (objective in ("bag_of_words", "captioning"))
    record = json.loads(out.read_text())
    assert record["unreadable"] == ["row 8"]
    assert (record["images"], record["step"], record["objective"]) == (8, 4, objective)
    assert len(record["templates"]) == 18
    assert [each["name"] for each in record["classes"]] == ["blue", "green", "red", "white"]
    assert sum(each["images"] for each in record["classes"]) == 8
    assert record["top1"]["low"] <= record["top1"]["value"] <= record["top1"]["high"]
    assert record["top5"] is None
    assert run_cli("zero-shot", run, "--data", colours, "--prompts", "cifar10", "--out", tmp_path / "again.json") == 0
    assert (tmp_path / "again.json").read_text() == out.read_text()


def test_a_run_with_its_own_vocabulary_and_a_moving_average(
    fit: Any, colours: Path, dataset: Path, tmp_path: Path, capsys: Any, configure: Any
) -> None:
    merges = tmp_path / "merges.txt"
    assert run_cli("tokenizer", dataset, "--vocabulary", 540, "--out", merges) == 0
    model = {**configure()["model"], "tokenizer": str(merges)}
    run = fit(model=model, ema={"decay": 0.5}, objective={"name": "sigmoid"})
    merges.unlink()
    trained, average = (load_model(run, weights=which) for which in ("model", "ema"))
    assert trained.tokenizer.vocabulary_size == 540
    checkpoint = load_checkpoint(sorted((run / FOLDER).glob("*.pt"))[-1])
    for subject, weights in ((trained, checkpoint.model_state), (average, checkpoint.state["ema"])):
        assert torch.equal(subject.model.logit_scale.detach(), weights["logit_scale"])
        assert torch.equal(subject.model.visual.proj.detach(), weights["visual.proj"])
    assert not torch.equal(trained.model.visual.proj, average.model.visual.proj)
    for command in (["zero-shot", run, "--data", colours], ["retrieval", run, "--dataset", dataset]):
        capsys.readouterr()
        assert run_cli(*command, "--weights", "ema") == 0
        assert "moving average of the weights" in capsys.readouterr().out
    assert json.loads((run / "retrieval.json").read_text())["weights"] == "ema"


def test_weights_from_elsewhere(fit: Any, colours: Path, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    subject = load_model(fit())
    assert isinstance(subject.model, Clip)
    path = tmp_path / "elsewhere" / "model.safetensors"
    path.parent.mkdir()
    save_safetensors(subject.model, path)
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    assert run_cli("zero-shot", tmp_path / "run", "--data", colours, "--out", one) == 0
    assert run_cli("zero-shot", path, "--data", colours, "--out", other) == 0
    first, second = (json.loads(each.read_text()) for each in (one, other))
    assert first["top1"] == second["top1"]
    assert first["confusions"] == second["confusions"]
    assert second["weights_file"] == "model.safetensors"
    assert run_cli("retrieval", path, "--dataset", dataset, "--limit", 20) == 0
    assert json.loads((path.parent / "retrieval.json").read_text())["images"] == 20
    assert f"wrote {path.parent / 'retrieval.json'}" in capsys.readouterr().out


def test_what_cannot_be_done_is_said(fit: Any, colours: Path, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    run = fit(objective={"name": "bag_of_words"})
    junk = tmp_path / "junk.pt"
    junk.write_bytes(b"junk")
    wrong = [
        (["zero-shot", tmp_path / "none", "--data", colours], "none does not exist"),
        (["zero-shot", junk, "--data", colours], "junk.pt holds no weights"),
        (["zero-shot", run, "--data", tmp_path / "none"], "none does not exist"),
        (["zero-shot", run, "--data", colours, "--prompts", "imagenet"], "no prompts of a known name"),
        (["zero-shot", run, "--data", colours, "--weights", "ema"], "holds no moving average"),
        (["zero-shot", run, "--data", colours, "--quick-gelu"], "is for weights of other programs"),
        (["zero-shot", junk, "--data", colours, "--weights", "ema"], "is not a run folder"),
        (["retrieval", run, "--dataset", dataset], "trained for bag_of_words, which has no embeddings for retrieval"),
    ]
    for command, sentence in wrong:
        capsys.readouterr()
        assert run_cli(*command) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert said.startswith("wit-train: ")
        assert said.count("\n") == 1
    assert run_cli("zero-shot", run, "--data", colours, "--weights", "best") == 2
    assert "is not one of 'model', 'ema'" in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["contrastive", "captioning"])
def test_zero_shot_while_training(objective: str, fit: Any, colours: Path, capsys: Any) -> None:
    settings = {"data": str(colours), "limit": 8, "prompts": "name"}
    run = fit(
        objective={"name": objective}, eval={"split": "val", "every": "2 steps", "limit": 10, "zero_shot": settings}
    )
    records = [record for record in read_metrics(run) if record["kind"] == "eval"]
    named = [record for record in records if "zero_shot_top1" in record]
    assert [record["step"] for record in named] == [2, 4]
    assert all(set(record) >= {"zero_shot_top1", "zero_shot_mean_per_class"} for record in named)
    assert any("text_to_image_recall_at_1" in record for record in records) == (objective == "contrastive")
    assert "step 4: zero-shot on colours (" in capsys.readouterr().out


def test_an_evaluation_that_cannot_be_is_refused_before_training(
    configure: Any, colours: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openwit.training.evaluation.evaluators.MAX_CAPTIONS", 100)
    cases = [
        ({"data": str(tmp_path / "none")}, "contrastive", "eval.zero_shot: "),
        ({"data": str(colours), "prompts": "none"}, "contrastive", "eval.zero_shot: none is no prompts"),
        ({"data": str(colours), "prompts": "cifar10"}, "captioning", "set limit to 1 or less"),
    ]
    for settings, objective, sentence in cases:
        path = tmp_path / "train.yaml"
        sections = configure(objective={"name": objective}, eval={"split": None, "zero_shot": settings})
        path.write_text(yaml.safe_dump(sections))
        assert run_cli("fit", path) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "run" / FOLDER).exists()


CASES = Path(__file__).parents[2] / "data" / "cases"


def test_tars_have_no_split_and_train_without_one(configure: Any, tmp_path: Path, capsys: Any) -> None:
    data = {"tars": [str(CASES / "tar-dotted-keys"), str(CASES / "tar-txt-and-odd-json")], "batch_size": 8}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(configure(data=data, eval={})))
    assert run_cli("fit", path) == 0
    said = capsys.readouterr().out
    assert "indexed 24 samples of 2 tars" in said
    assert said.count("eval.split is null, since data.tars have no splits") == 1
    assert "samples had a JSON member that is not valid JSON" in said
    path.write_text(yaml.safe_dump(configure(data=data, eval={"split": "test"})))
    assert run_cli("fit", path) == 2
    assert "data.tars has no splits" in capsys.readouterr().err
    assert run_cli("zero-shot", tmp_path / "run", "--data", CASES / "tar-gz") == 2
    assert "none of its 16 images has a class in a member .cls" in capsys.readouterr().err


def test_retrieval_of_captioned_rows_and_of_images_by_images(
    fit: Any, colours: Path, dataset: Path, tmp_path: Path, capsys: Any
) -> None:
    run = fit()
    rows = pq.read_table(colours)
    captions = [[f"a {label}", f"all {label}"] for label in rows["label"].to_pylist()]
    path = tmp_path / "captions.parquet"
    pq.write_table(pa.table({"image": rows["image"], "captions": captions}), path)
    assert run_cli("retrieval", run, "--data", path, "--prefix", "a photo of ") == 0
    said = capsys.readouterr().out
    assert "captions/rows, 8 images, 16 texts" in said
    assert "1 unreadable samples were skipped: row 8" in said
    record = json.loads((run / "retrieval.json").read_text())
    assert (record["prefix"], record["entries"], record["distinct_texts"]) == ("a photo of ", 16, 8)
    assert record["unreadable"] == ["row 8"]
    assert run_cli("retrieval", run, "--data", colours, "--image-to-image") == 0
    assert "4 groups, 8 images; 1 unreadable were skipped: row 8" in capsys.readouterr().out
    found = json.loads((run / "image-retrieval.json").read_text())
    assert [each["value"] for each in found["recalls"]] == [1.0, 1.0, 1.0]
    table = tmp_path / "pairs.csv"
    for number, image in enumerate(rows["image"].to_pylist()):
        (tmp_path / f"{number}.jpg").write_bytes(image)
    table.write_text("\n".join(["path,object", *(f"{n}.jpg,{n % 4}" for n in range(8))]))
    arguments = ["retrieval", run, "--data", table, "--image-to-image"]
    assert run_cli(*arguments, "--group-column", "object") == 0
    assert json.loads((run / "image-retrieval.json").read_text())["recalls"] == found["recalls"]
    capsys.readouterr()
    wrong = [
        ([*arguments, "--prefix", "x"], "--prefix does not apply to --image-to-image"),
        (arguments, "has no column 'group'"),
        (["retrieval", run, "--data", path, "--group-column", "x"], "--group-column needs --image-to-image"),
        (["retrieval", run, "--data", dataset, "--split", "train"], "trained on split 'train'"),
    ]
    for command, sentence in wrong:
        assert run_cli(*command) == 2
        assert sentence in capsys.readouterr().err


def test_an_ensemble_is_shown_beside_the_single_template(fit: Any, colours: Path, tmp_path: Path, capsys: Any) -> None:
    run = fit()
    out = tmp_path / "zero.json"
    assert run_cli("zero-shot", run, "--data", colours, "--prompts", "photo", "--out", out) == 0
    said = capsys.readouterr().out
    assert "prompts by top-1" in said
    record = json.loads(out.read_text())
    (compared,) = record["compared"]
    assert (compared["prompts"], compared["templates"]) == ("paper", ["A photo of a {label}."])
    alone = tmp_path / "alone.json"
    assert run_cli("zero-shot", run, "--data", colours, "--prompts", "paper", "--out", alone) == 0
    single = json.loads(alone.read_text())
    assert single["compared"] == []
    assert single["top1"]["value"] == compared["headline"]["value"]
    difference = record["top1"]["value"] - single["top1"]["value"]
    assert compared["gain_of_the_first"]["value"] == pytest.approx(difference)
    (colours.parent / "zeroshot_classification_templates.txt").write_text("a {c}\nthe {c}\n")
    options = ["--metric", "mean_per_class"]
    assert run_cli("zero-shot", run, "--data", colours, *options, "--out", out) == 0
    record = json.loads(out.read_text())
    assert record["templates"] == ["a {c}", "the {c}"]
    assert record["metric"] == "mean_per_class"
    assert record["headline"]["value"] == record["mean_per_class"]["value"]
    for wrong, sentence in [
        (["--metric", "roc_auc"], "roc_auc is that of two"),
        (["--metric", "f1"], "is not one of"),
    ]:
        capsys.readouterr()
        assert run_cli("zero-shot", run, "--data", colours, *wrong) == 2
        assert sentence in capsys.readouterr().err


def test_zero_shot_of_several_labels(fit: Any, factory: SimpleNamespace, tmp_path: Path, capsys: Any) -> None:
    pictures = [factory.jpeg(np.full((32, 40, 3), value, np.uint8)) for value in (20, 90, 160, 230)]
    labels = [["dark"], ["dark", "grey"], ["grey", "light"], ["light"]]
    path = tmp_path / "several.parquet"
    pq.write_table(pa.table({"image": [*pictures, b"broken"], "labels": [*labels, []]}), path)
    run, out = fit(), tmp_path / "several.json"
    assert run_cli("zero-shot", run, "--data", path, "--out", out) == 0
    said = capsys.readouterr().out
    assert "mAP, 11 points *" in said
    assert "left out: 1 unreadable" in said
    record = json.loads(out.read_text())
    assert (record["metric"], record["images"], record["unreadable"]) == ("map_11_point", 4, ["row 4"])
    assert [each["images"] for each in record["classes"]] == [2, 2, 2]
    assert 0 < record["map"]["low"] <= record["map"]["value"] <= record["map"]["high"] <= 1
    assert run_cli("zero-shot", run, "--data", path, "--metric", "accuracy") == 2
    assert "may have several classes" in capsys.readouterr().err


def test_a_known_dataset_by_name(fit: Any, colours: Path, tmp_path: Path, capsys: Any) -> None:
    run, out = fit(), tmp_path / "zero.json"
    root = tmp_path / "sets"
    root.mkdir()
    colours.rename(root / "pets.parquet")
    assert run_cli("zero-shot", run, "--dataset", "oxford_pets", "--root", root, "--out", out) == 0
    said = capsys.readouterr().out
    assert "metric mean_per_class" in said
    assert "has 4 class names, but Oxford-IIIT Pets has 37" in said
    record = json.loads(out.read_text())
    assert (record["metric"], record["prompts"], record["images"]) == ("mean_per_class", "pet", 8)
    assert [each["prompts"] for each in record["compared"]] == ["paper"]
    wrong = [
        (["--dataset", "pets", "--root", root, "--data", root / "pets.parquet"], "give either --data PATH"),
        ([], "give either --data PATH"),
        (["--dataset", "pet", "--root", root], "no dataset 'pet' is known"),
        (["--dataset", "mnist", "--root", root], "holds no MNIST"),
        (["--dataset", "pets", "--root", root, "--label-column", "x"], "are for --data"),
        (["--dataset", "pets", "--root", root, "--split", "val"], "leave the split out"),
    ]
    for options, sentence in wrong:
        capsys.readouterr()
        assert run_cli("zero-shot", run, *options) == 2
        assert sentence in capsys.readouterr().err


def test_images_that_were_trained_on_are_refused(
    fit: Any, factory: SimpleNamespace, dataset: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = shutil.copytree(dataset, tmp_path / "copy")
    run = fit(data={"dataset": str(folder), "batch_size": 24})
    table = next((folder / "train").glob("*.parquet"))
    pictures = [factory.jpeg(np.full((32, 40, 3), value, np.uint8)) for value in (20, 200)]
    path = tmp_path / "held.parquet"
    pq.write_table(pa.table({"image": pictures, "label": ["dark", "light"]}), path)
    samples = pq.read_table(table)
    sums = [hashlib.sha256(pictures[0]).hexdigest(), *["0" * 64] * (samples.num_rows - 1)]
    column = samples.schema.get_field_index("sha256")
    pq.write_table(samples.set_column(column, "sha256", pa.array(sums)), table)
    assert run_cli("zero-shot", run, "--data", path) == 2
    said = capsys.readouterr().err
    assert "1 of the 2 images of held are in the training data of the model, by checksum (the first: row 0)" in said
    assert run_cli("zero-shot", run, "--data", path, "--allow-train") == 0


def test_shards_that_were_trained_on_are_refused_by_path(fit: Any, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    run = fit()
    for data in (dataset / "train", next(dataset.glob("train/*.tar"))):
        assert run_cli("retrieval", run, "--data", data, "--out", tmp_path) == 2
        assert "the model was trained on split" in " ".join(capsys.readouterr().err.split())
    assert run_cli("retrieval", run, "--data", dataset / "train", "--out", tmp_path, "--allow-train") == 0
    assert run_cli("retrieval", run, "--data", dataset, "--out", tmp_path / "retrieval.json") == 2
    assert "retrieval.json is a file: give a folder" in " ".join(capsys.readouterr().err.split())
    first = json.loads((tmp_path / "retrieval.json").read_text())
    assert len(first["images_sha256"]) == 64
