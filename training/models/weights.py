"""Load and save weights: OpenAI's released ones, open_clip's, and OpenWIT's in the layout that open_clip loads.

All three have the same tensors. OpenAI's and open_clip's usual layout has the text tower's at the top level
(`token_embedding.weight`), open_clip's other one and OpenWIT's below `text.`; nothing else differs. Shapes do not show
the number of heads and the activation, so OpenWIT's files store the spec as well.
"""

import json
import math
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.settings import parse_settings
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import Clip
from openwit.training.models.torchscript import is_torchscript, read_torchscript

# Numbers that OpenAI's archives hold besides the weights.
ARCHIVE_EXTRAS = ("input_resolution", "context_length", "vocab_size")
TEXT_TOWER = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
# Keys under which programs save weights: open_clip's trainer and OpenWIT's.
WRAPPERS = ("state_dict", "model")
# Prefixes of every key: of DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")
HEAD_WIDTH = 64
SPEC_KEY = "openwit_spec"

# Exceptions on reading bytes that are not a pickle, besides UnpicklingError.
_BROKEN_PICKLE = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError),
    *(struct.error, IndexError, TypeError, AttributeError),
)


@dataclass(frozen=True)
class LoadReport:
    """Report of loading, beyond copying equal tensors.

    Attributes:
        tensors: number of tensors copied.
        converted: number of tensors converted to the model's type, such as half precision to float32.
        ignored: keys that are not weights.
        notes: a sentence for each unexpected change: a position embedding resized, another activation.
    """

    tensors: int
    converted: int
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict: keys as in the file, without wrappers and prefixes; tensors on the CPU, types as stored.

    Reads `.safetensors`, `torch.save` files (also open_clip's and OpenWIT's checkpoints) and TorchScript archives. No
    code in a file is ever run.

    Raises:
        DataError: the file is missing or damaged, holds code, or does not hold a state dict.
    """
    refuse_special(path, str(path))
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise DataError(f"{path} is no safetensors file: {error}") from error
    if is_torchscript(path):
        return read_torchscript(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} is no file of weights only, so it is not opened: it could run code") from error
    except _BROKEN_PICKLE as error:
        raise DataError(f"{path} is not a file that torch.save wrote: {error}") from error
    return _unwrapped(content, path)


def settings_of(state: Mapping[str, Tensor], quick_gelu: bool | None = None, head_width: int = HEAD_WIDTH) -> ClipSpec:
    """Infer the architecture from the shapes of a state dict.

    Args:
        state: of any of the three layouts.
        quick_gelu: activation, which shapes do not show. None: QuickGELU if the keys are those of OpenAI's own
            archive, else GELU. Pass true for OpenAI's weights from elsewhere: with GELU they lose about 2.7 points.
        head_width: channels per head, which shapes do not show either; 64 in all nine models of the paper.

    Raises:
        DataError: it is not a CLIP with a Vision Transformer or a ResNet.
    """
    weights, extras = named_as_here(state)
    text_width = _size(weights, "text.ln_final.weight", 0)
    raw = {
        "embed_dim": _size(weights, "text.text_projection", 1),
        "quick_gelu": bool(extras) if quick_gelu is None else quick_gelu,
        "vision": (_vit if "visual.proj" in weights else _resnet)(weights, head_width),
        "text": {
            "context_length": _size(weights, "text.positional_embedding", 0),
            "vocabulary": _size(weights, "text.token_embedding.weight", 0),
            "width": text_width,
            "layers": _count(weights, "text.transformer.resblocks."),
            "heads": max(1, text_width // head_width),
        },
    }
    return parse_settings(raw, ClipSpec, "the weights' shapes")


def into_model(model: Clip, state: Mapping[str, Tensor]) -> LoadReport:
    """Copy weights of any of the three layouts into a model, which is not changed if they do not fit.

    A position embedding of the image tower for another image size is resized (bicubic, antialiased, corners not
    aligned, the class token or mean query unchanged; all as open_clip does it for Vision Transformers).

    Raises:
        DataError: a tensor is missing, is unknown, or has another shape; names the first.
    """
    expected = model.state_dict()
    weights, ignored = named_as_here(state)
    notes = []
    if model.spec.quick_gelu is False and any(key in ARCHIVE_EXTRAS for key in ignored):
        notes.append(
            "these are OpenAI's weights, trained with QuickGELU, but the model has GELU: set quick_gelu: true"
        )
    position = model.spec.vision.position_embedding
    if position in weights:
        resized = resized_positions(weights[position], expected[position].shape)
        if resized is not None:
            before, after = grid_side(weights[position]), grid_side(resized)
            notes.append(f"{position} was resized from {before} x {before} positions to {after} x {after}")
            weights[position] = resized
    for key, tensor in expected.items():
        if key not in weights and key.endswith("num_batches_tracked"):
            weights[key] = tensor  # missing in files of PyTorch before 0.4.1, and never read
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:
        weights["logit_scale"] = weights["logit_scale"].reshape(())  # sharded training saves it as one row
    _check(expected, weights)
    model.load_state_dict(weights)
    converted = sum(weights[key].dtype != tensor.dtype for key, tensor in expected.items())
    return LoadReport(len(expected), converted, ignored, tuple(notes))


def to_open_clip(model: Clip) -> dict[str, Tensor]:
    """Return the model's weights with the names of open_clip's `CLIP`, on the CPU.

    Those of a convolutional stem have names that open_clip does not know; it rejects them.
    """
    return {
        key.removeprefix("text."): tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()
    }


def save_safetensors(model: Clip, path: Path) -> None:
    """Write `to_open_clip` and, in the file's metadata, the spec. The file is complete or absent."""
    metadata = {"format": "pt", SPEC_KEY: model.spec.model_dump_json()}
    with storage_faults(path.parent), atomic_path(path) as temporary:
        save_file(to_open_clip(model), temporary, metadata=metadata)


def stored_spec(path: Path) -> ClipSpec | None:
    """Return the architecture that `save_safetensors` stored; None if the file has none.

    Raises:
        DataError: the stored architecture is not valid.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            note = (file.metadata() or {}).get(SPEC_KEY)
        return None if note is None else parse_settings(json.loads(note), ClipSpec, f"{path}: {SPEC_KEY}")
    except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is no safetensors file of ours: {error}") from error


def model_from_weights(path: Path, *, quick_gelu: bool | None = None) -> tuple[Clip, LoadReport]:
    """Return a model of a file's architecture with its weights, in evaluation mode.

    For a checkpoint of OpenWIT use `into_model` and the spec of its configuration: shapes do not show its heads.

    Args:
        path: see `load_weights`.
        quick_gelu: see `settings_of`; None takes the one stored in the file, if any.

    Returns:
        The model, and a report whose notes include what had to be assumed.
    """
    state = load_weights(path)
    spec = stored_spec(path)
    assumed = []
    if spec is None:
        spec = settings_of(state, quick_gelu)
        assumed.append(f"heads are taken to be {HEAD_WIDTH} channels wide, which no shape tells")
        if quick_gelu is None and not spec.quick_gelu:
            assumed.append("the activation is taken to be GELU: give quick_gelu: true for OpenAI's weights")
    elif quick_gelu is not None:
        spec = spec.model_copy(update={"quick_gelu": quick_gelu})
    model = Clip(spec)
    report = into_model(model, state)
    return model.eval(), replace(report, notes=(*report.notes, *assumed))


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path} holds no state dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DataError(f"{path} holds no state dict: {key!r} is no tensor")
    state: dict[str, Tensor] = dict(content)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def named_as_here(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    named = {
        f"text.{key}" if key.startswith(TEXT_TOWER) else key: tensor
        for key, tensor in state.items()
        if key not in ARCHIVE_EXTRAS
    }
    return named, tuple(key for key in state if key in ARCHIVE_EXTRAS)


def _check(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for key in expected:
        if key not in weights:
            raise DataError(f"the weights lack {key!r}, which the model has")
    for key in weights:
        if key not in expected:
            raise DataError(f"the weights hold {key!r}, which the model does not have")
    for key, tensor in expected.items():
        if weights[key].shape != tensor.shape:
            found, wanted = tuple(weights[key].shape), tuple(tensor.shape)
            raise DataError(f"{key!r} has the shape {found} in the weights, but {wanted} in the model")


def resized_positions(embedding: Tensor, wanted: torch.Size) -> Tensor | None:
    # None if there is nothing to resize, or it cannot be resized; the check of shapes then fails.
    if embedding.shape == wanted or embedding.ndim != 2 or embedding.shape[1] != wanted[1]:
        return None
    side, channels = grid_side(embedding), embedding.shape[1]
    if side < 1 or side**2 + 1 != len(embedding):
        return None
    grid = embedding[1:].float().reshape(1, side, side, channels).permute(0, 3, 1, 2)
    size = math.isqrt(wanted[0] - 1)
    grid = F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([embedding[:1].float(), grid.permute(0, 2, 3, 1).reshape(size * size, channels)])


def grid_side(embedding: Tensor) -> int:
    return math.isqrt(max(0, len(embedding) - 1))


def _size(weights: Mapping[str, Tensor], key: str, axis: int) -> int:
    if key not in weights:
        raise DataError(f"the weights lack {key!r}, so they are not those of a CLIP in OpenAI's or open_clip's layout")
    if weights[key].ndim <= axis:
        raise DataError(f"{key!r} has the shape {tuple(weights[key].shape)}, which no CLIP of this layout has")
    return weights[key].shape[axis]


def _grid(weights: Mapping[str, Tensor], key: str) -> int:
    """Return the side of the square of positions; one further row is the class token's or the mean's."""
    positions = _size(weights, key, 0) - 1
    side = math.isqrt(max(0, positions))
    if side < 1 or side**2 != positions:
        raise DataError(f"{key!r} has {positions + 1} rows, which are no square of positions and one more")
    return side


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of numbered children of a module."""
    numbers = [key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)]
    return len(set(numbers))


def _vit(weights: Mapping[str, Tensor], head_width: int) -> dict[str, object]:
    width = _size(weights, "visual.class_embedding", 0)
    convolutions = sum(key.startswith("visual.conv1.") and weights[key].ndim == 4 for key in weights)
    # The last convolution of the stem does not halve the sides.
    stem = "patch" if "visual.conv1.weight" in weights else "convolutions"
    patch = _size(weights, "visual.conv1.weight", 2) if stem == "patch" else 2 ** max(0, convolutions - 1)
    return {
        "image_size": patch * _grid(weights, "visual.positional_embedding"),
        "patch_size": patch,
        "width": width,
        "layers": _count(weights, "visual.transformer.resblocks."),
        "heads": max(1, width // head_width),
        "stem": stem,
    }


def _resnet(weights: Mapping[str, Tensor], head_width: int) -> dict[str, object]:
    width = _size(weights, "visual.layer1.0.conv1.weight", 0)
    return {
        "kind": "resnet",
        "image_size": 32 * _grid(weights, "visual.attnpool.positional_embedding"),
        "layers": tuple(_count(weights, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)),
        "width": width,
        "heads": max(1, 32 * width // head_width),
    }
