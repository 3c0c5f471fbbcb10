"""The exporter takes 7 s a graph, so a test makes no more than it needs."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.export.onnx_graphs import BOUND, graphs_of, parity, write_graph, write_onnx

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)


def answers(path: Path, name: str, values: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: values.numpy()})[0])


@pytest.fixture(scope="module")
def exported(made: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    source: LoadedModel = made.source("vit", bias=-3.0)
    folder = tmp_path_factory.mktemp("onnx")
    return SimpleNamespace(source=source, folder=folder, notes=write_onnx(source, folder))


def test_graphs_answer_as_the_model_for_any_batch(made: Any, exported: SimpleNamespace) -> None:
    source, folder = exported.source, exported.folder
    assert all("opset 18, largest difference" in note for note in exported.notes)
    card = json.loads((folder / "onnx.json").read_text())
    assert card["logit_bias"] == -3.0
    assert max(card["largest_difference"].values()) < BOUND
    ids = made.tokens(source)
    padded = torch.nn.functional.pad(ids, (0, card["context_length"] - ids.shape[1]))
    for count in (1, 2, 5):
        images = made.pictures(count, source.model.spec.vision.image_size)
        with torch.inference_mode():
            expected = source.model.encode_image(images), source.model.encode_text(ids[:count])
        torch.testing.assert_close(answers(folder / "image.onnx", "pixel_values", images), expected[0])
        torch.testing.assert_close(answers(folder / "text.onnx", "input_ids", padded[:count]), expected[1])
    assert (folder / "merges.txt").exists()


def test_the_lineage_stands_in_each_graph(exported: SimpleNamespace) -> None:
    import onnx

    for name in ("image", "text"):
        graph = onnx.load(exported.folder / f"{name}.onnx")
        onnx.checker.check_model(graph)
        assert [each.version for each in graph.opset_import if not each.domain] == [18]
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        assert json.loads(metadata["openwit_lineage"]) == exported.source.lineage


def test_a_graph_that_answers_differently_is_refused(made: Any, exported: SimpleNamespace) -> None:
    other = made.source("vit", quick_gelu=False)
    image, _ = graphs_of(other.model)
    with pytest.raises(OpenWITError, match="image.onnx answers differently from the model by"):
        parity(image, exported.folder / "image.onnx")


def test_a_resnet(made: Any, tmp_path: Path) -> None:
    image, _ = graphs_of(made.source("resnet").model)
    write_graph(image, tmp_path / "image.onnx", {})
    assert parity(replace(image, name="again"), tmp_path / "image.onnx") < BOUND
