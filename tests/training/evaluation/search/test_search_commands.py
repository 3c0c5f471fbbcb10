"""`wit-train embed`, `index` and `search` as a user calls them."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from openwit.schemas.common.sealed import seal, unseal
from openwit.training.checkpoints.load import load_model
from openwit.training.cli.main import main
from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.search import write
from openwit.training.evaluation.search.vectors import open_vectors


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def embedded(weights: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embedded") / "val"
    assert run_cli("embed", weights, dataset, "--split", "val", "--out", out, "--part", 20) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_layout_is_that_of_clip_retrieval(embedded: Path, weights: Path, dataset: Path) -> None:
    names = [f"{folder}/{folder}_{n}" for folder in ("img_emb", "metadata", "text_emb") for n in range(3)]
    found = contents(embedded)
    assert [name.partition(".")[0] for name in found if not name.startswith((".", "embeddings"))] == names
    arrays = [np.load(embedded / f"img_emb/img_emb_{n}.npy") for n in range(3)]
    assert [(array.shape, array.dtype) for array in arrays] == [((20, 24), np.float16)] * 2 + [((8, 24), np.float16)]
    val = ShardedDataset(dataset, "val")
    table = pq.read_table(embedded / "metadata/metadata_1.parquet")
    assert table["key"].to_pylist() == table["image_path"].to_pylist() == [val.key(n) for n in range(20, 40)]
    assert table["caption"].to_pylist() == [val.sample(n).texts[0] for n in range(20, 40)]
    assert table["url"].to_pylist() == [f"http://x/{val.key(n)}" for n in range(20, 40)]
    model = load_model(weights)
    texts = model.encode_text([val.sample(n).texts[0] for n in range(20, 40)])
    images = model.encode_image([val[n].image for n in range(20, 40)])
    assert np.abs(np.load(embedded / "text_emb/text_emb_1.npy") - texts.numpy()).max() < 1e-3
    assert np.abs(arrays[1] - images.numpy()).max() < 2e-3
    summary = json.loads(unseal((embedded / "embeddings.json").read_bytes(), "summary"))
    assert summary["model"]["sha256"] == model.about["weights_sha256"]
    assert (summary["rows"], summary["dimension"], summary["unreadable"]) == (48, 24, [])


def test_a_second_run_does_nothing_and_a_killed_one_is_resumed_to_the_same_bytes(
    embedded: Path, weights: Path, dataset: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["embed", weights, dataset, "--split", "val", "--part", 20, "--out"]
    assert run_cli(*arguments, embedded) == 0
    assert "nothing to do" in capsys.readouterr().out
    finish = write.finish

    def killed(names: Any, number: int, *rest: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return finish(names, number, *rest)

    out = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr(write, "finish", killed)
        assert run_cli(*arguments, out) != 0
    assert not (out / "embeddings.json").exists()
    assert run_cli("search", out, "--text", "red", "--model", weights) == 2
    assert "are not complete: run the same" in capsys.readouterr().err
    (out / "img_emb/img_emb_0.npy").write_bytes(b"damaged")
    assert run_cli(*arguments, out) == 0
    assert contents(out) == contents(embedded)
    shared = tmp_path / "shared"
    assert run_cli(*arguments, shared, "--share", "2/2") == 0
    assert "is complete when all shares are" in capsys.readouterr().out
    assert run_cli(*arguments, shared, "--share", "1/2") == 0
    assert contents(shared) == contents(embedded)


def test_images_that_cannot_be_read_are_named(weights: Path, factory: Any, tmp_path: Path, capsys: Any) -> None:
    samples = [factory.coloured(n, "train") for n in range(6)]
    samples[2] = factory.Made("broken", b"no image", ("a text",))
    folder = factory.write_dataset(tmp_path / "dataset", {"train": samples})
    out = tmp_path / "out"
    arguments = ["embed", weights, folder, "--split", "train", "--out", out, "--of", "images", "--dtype", "float32"]
    assert run_cli(*arguments) == 0
    assert "5 rows of images in 1 parts; 1 unreadable were left out: broken" in capsys.readouterr().out
    assert np.load(out / "img_emb/img_emb_0.npy").shape == (5, 24)
    assert not (out / "text_emb").exists()
    assert [row["key"] for row in open_vectors(out).rows([1, 2])] == [samples[1].key, samples[3].key]


def test_search_by_image_and_text(embedded: Path, weights: Path, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    val = ShardedDataset(dataset, "val")
    query, sheet, out = tmp_path / "q.jpg", tmp_path / "sheet.png", tmp_path / "found.json"
    query.write_bytes(val.sample(31).image)
    arguments = ["search", embedded, "--image", query, "--k", 7, "--contact-sheet", sheet, "--out", out]
    assert run_cli(*arguments) == 0
    said = capsys.readouterr().out
    assert "searched exactly" in said
    assert f"wrote {sheet}\n" in said
    nearest = json.loads(out.read_text())["nearest"]
    assert nearest[0]["key"] == val.key(31)
    assert nearest[0]["score"] == pytest.approx(1.0, abs=2e-3)
    assert nearest[0]["url"] == f"http://x/{val.key(31)}"
    model = load_model(weights)
    images = np.concatenate([np.load(embedded / f"img_emb/img_emb_{n}.npy") for n in range(3)]).astype(np.float32)
    order = np.argsort(-(images @ model.encode_image(val[31].image).numpy()[0]), kind="stable")
    assert [each["number"] for each in nearest[:3]] == order[:3].tolist()
    with Image.open(sheet) as drawn:
        shown = [drawn.convert("RGB").getpixel((100 + 210 * n, 200)) for n in range(3)]
    assert (227, 225, 218) not in shown  # what is drawn for a missing image
    assert run_cli("search", embedded, "--text", "a red box", "--of", "texts", "--k", 100, "--out", out) == 0
    assert len(json.loads(out.read_text())["nearest"]) == 48


def test_what_does_not_fit_is_said(
    embedded: Path, weights: Path, make_weights: Any, tmp_path: Path, capsys: Any, dataset: Path
) -> None:
    other = make_weights(tmp_path / "other" / "model.safetensors", 2)
    narrow = make_weights(tmp_path / "narrow" / "model.safetensors", 1, embed_dim=16)
    bare = tmp_path / "bare"
    shutil.copytree(embedded, bare)
    path = bare / "embeddings.json"
    summary = json.loads(unseal(path.read_bytes(), path))
    path.write_text(json.dumps({**summary, "model": {}}))
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    embed = ["embed", weights, dataset, "--split", "val", "--part", 20]
    wrong = [
        (["search", embedded, "--text", "x", "--model", other], "was made by other weights (sha256 "),
        (["search", bare, "--text", "x"], "is damaged"),
        (["search", embedded, "--text", "x", "--image", text], "either --text or --image"),
        (["search", embedded], "either --text or --image"),
        (["search", embedded, "--text", " "], "--text is empty"),
        (["search", embedded, "--image", text], "cannot be read as an image"),
        (["search", embedded, "--image", tmp_path / "none"], "cannot be read as an image"),
        (["search", tmp_path / "none", "--text", "x"], "does not exist"),
        (["search", tmp_path / "full", "--text", "x"], "are no embeddings"),
        ([*embed, "--out", tmp_path / "full"], "is not empty and holds no embeddings"),
        ([*embed, "--out", text], "is a file"),
        ([*embed, "--out", embedded, "--dtype", "float32"], "another dtype"),
        (["embed", narrow, dataset, "--split", "val", "--part", 20, "--out", embedded], "another model"),
        ([*embed, "--out", tmp_path / "x", "--share", "3/2"], "must be I/N"),
        (["embed", weights, tmp_path / "none", "--out", tmp_path / "x"], "none does not exist"),
    ]
    for command, sentence in wrong:
        capsys.readouterr()
        assert run_cli(*command) == 2, sentence
        said = capsys.readouterr().err
        assert sentence in said
        assert said.count("\n") == 1
    path.write_text(seal(json.dumps({**summary, "model": {}})))
    assert run_cli("search", bare, "--text", "x", "--model", narrow) == 2
    assert "vectors of 24 dimensions, the model's have 16" in capsys.readouterr().err


def test_an_index_states_its_recall(embedded: Path, tmp_path: Path, capsys: Any) -> None:
    index = tmp_path / "index"
    if find_spec("faiss") is None:
        assert run_cli("index", embedded, "--out", index) == 2
        assert "pip install 'openwit[search]'" in capsys.readouterr().err
        assert not index.exists()
        pytest.skip("faiss (openwit[search]) is not installed")
    assert run_cli("index", embedded, "--out", index, "--recall", 1.0) == 0
    assert "recall 100.0% of the 10 exact nearest of 48 of its own vectors" in capsys.readouterr().out
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert run_cli("search", index, "--text", "a red box", "--out", one) == 0
    assert "by an index of recall 100.0%" in " ".join(capsys.readouterr().out.split())
    assert run_cli("search", embedded, "--text", "a red box", "--out", two) == 0
    first, second = (json.loads(path.read_text())["nearest"] for path in (one, two))
    assert [each["key"] for each in first] == [each["key"] for each in second]
    assert run_cli("index", embedded, "--out", index) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_cli("search", index, "--text", "x", "--of", "texts") == 2
    assert "is an index of images" in capsys.readouterr().err
    (index / "vectors.faiss").write_bytes(b"junk")
    assert run_cli("search", index, "--text", "x") == 2
    assert "cannot be read" in capsys.readouterr().err
