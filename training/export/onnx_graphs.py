"""Export the two towers as ONNX graphs, each compared with the model before it is accepted."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.export.hugging_face import preprocessing
from openwit.training.export.metadata import LINEAGE_KEY
from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.models.clip import Clip

OPSET = 18
# Largest allowed difference between graph and model in a component of the embeddings, which have unit length.
BOUND = 1e-5
BATCHES = (1, 3)
# A graph with its weights is one protocol buffer, limited to 2 GiB; the weights of larger ones are in a separate file.
LARGEST_BYTES = 1_900_000_000
NEEDS = "the export to onnx needs more packages: pip install 'openwit[onnx]'"


class ImageEncoder(nn.Module):
    """Maps (B, 3, H, W) normalised pixels to (B, embed_dim) of unit length."""

    def __init__(self, model: Clip) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """See the class."""
        return self.model.encode_image(pixel_values)


class TextEncoder(nn.Module):
    """Maps (B, context length) token ids to (B, embed_dim) of unit length."""

    def __init__(self, model: Clip) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """See the class."""
        return self.model.encode_text(input_ids)


@dataclass(frozen=True)
class Graph:
    """One tower to export: its module, the names of input and output, and a function that draws random inputs."""

    name: str
    encoder: nn.Module
    input: str
    output: str
    weights: nn.Module
    draw: Callable[[int, torch.Generator], Tensor]


def write_onnx(source: LoadedModel, folder: Path) -> tuple[str, ...]:
    """Write image.onnx, text.onnx, preprocessing, tokenizer and a description of the graphs into an existing folder.

    Returns:
        One sentence per graph: its opset and the largest difference found.

    Raises:
        RecipeError: a package is missing, or a graph's outputs differ from the model's by more than `BOUND`.
    """
    _require()
    model = source.model
    graphs = graphs_of(model)
    notes, differences = [], {}
    for graph in graphs:
        path = folder / f"{graph.name}.onnx"
        write_graph(graph, path, source.lineage)
        difference = parity(graph, path)
        notes.append(
            f"{path.name}: opset {OPSET}, largest difference from the model {difference:.1e} "
            f"(batches of {' and '.join(map(str, BATCHES))}, random inputs; {BOUND:.0e} allowed)"
        )
        differences[graph.name] = difference
    card = {
        "opset": OPSET,
        "graphs": {graph.name: {"input": graph.input, "output": graph.output} for graph in graphs},
        "largest_difference": differences,
        "embed_dim": model.spec.embed_dim,
        "context_length": model.spec.text.context_length,
        "pad_token_id": model.spec.text.pad,
        "logit_scale": source.logit_scale,
        "logit_bias": source.logit_bias,
    }
    (folder / "onnx.json").write_text(json.dumps(card, indent=2) + "\n")
    size = model.spec.vision.image_size
    preprocessor = preprocessing(size, model.spec.images)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    write_tokenizer(source.tokenizer, model.spec.text.context_length, folder, pad=model.spec.text.pad)
    return tuple(notes)


def parity(graph: Graph, path: Path) -> float:
    """Return the largest difference between ONNX Runtime's outputs and the model's, over batches of several sizes.

    Raises:
        RecipeError: it is above `BOUND`, or not a number.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in BATCHES:
        inputs = graph.draw(batch, generator)
        with torch.inference_mode():
            expected = graph.encoder(inputs).numpy()
        (found,) = session.run([graph.output], {graph.input: inputs.numpy()})
        worst = max(worst, float(np.abs(np.asarray(found) - expected).max()))
    if not worst <= BOUND:
        raise RecipeError(
            f"the graph {path.name} answers differently from the model by {worst:.1e}, more than {BOUND:.0e}, so "
            "nothing was written"
        )
    return worst


def graphs_of(model: Clip) -> tuple[Graph, Graph]:
    """Return the image tower and the text tower as graphs to export."""
    size, text = model.spec.vision.image_size, model.spec.text

    def pixels(batch: int, generator: torch.Generator) -> Tensor:
        return torch.randn(batch, 3, size, size, generator=generator)

    def tokens(batch: int, generator: torch.Generator) -> Tensor:
        ids = torch.randint(1, text.vocabulary - 2, (batch, text.context_length), generator=generator)
        ends = torch.randint(2, text.context_length, (batch,), generator=generator)
        ids[:, 0] = text.vocabulary - 2
        ids[torch.arange(batch), ends] = text.vocabulary - 1
        return ids.where(torch.arange(text.context_length) <= ends[:, None], torch.tensor(0))

    return (
        Graph("image", ImageEncoder(model).eval(), "pixel_values", "image_embeds", model.visual, pixels),
        Graph("text", TextEncoder(model).eval(), "input_ids", "text_embeds", model.text, tokens),
    )


def write_graph(graph: Graph, path: Path, lineage: dict[str, Any]) -> None:
    """Write one graph; any batch size, opset `OPSET`, the lineage in its metadata."""
    # Two rows: with one, the exporter treats the batch size as a constant.
    example = graph.draw(2, torch.Generator().manual_seed(1))
    with _quiet(), torch.inference_mode():
        # Strict: the other mode of the exporter treats len(x) as a constant.
        batch = {graph.input: {0: torch.export.Dim("batch")}}
        traced = torch.export.export(graph.encoder, (example,), dynamic_shapes=batch, strict=True)
        program: Any = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.input],
            output_names=[graph.output],
            verbose=False,
        )
    program.model.metadata_props[LINEAGE_KEY] = json.dumps(lineage, sort_keys=True)
    bytes_of_weights = sum(tensor.nbytes for tensor in graph.weights.state_dict().values())
    with _quiet():
        program.save(str(path), external_data=bytes_of_weights > LARGEST_BYTES)


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporter, which reports its progress on standard output, by warnings and by logging."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RecipeError(NEEDS) from error
