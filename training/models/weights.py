"""Load and save weights: OpenAI's released ones, open_clip's, SigLIP's, and OpenWIT's in open_clip's layout.

For CLIP all have the same tensors (SigLIP's are named by `openwit.training.models.siglip`). OpenAI's and open_clip's
usual layout has the text tower's at the top level (`token_embedding.weight`), open_clip's other one and OpenWIT's
below `text.`; nothing else differs. Shapes do not show the number of heads and the activation, so OpenWIT's files
store the spec as well.
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
from openwit.training.config.images import SIGLIP_IMAGES
from openwit.training.config.zoo import ClipSpec, ResNetSpec
from openwit.training.models.clip import Clip
from openwit.training.models.siglip import from_siglip, is_siglip
from openwit.training.models.torchscript import is_torchscript, read_torchscript

# Numbers that OpenAI's archives hold besides the weights.
ARCHIVE_EXTRAS = ("input_resolution", "context_length", "vocab_size")
TEXT_TOWER = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
# Keys under which programs save weights: open_clip's trainer and OpenWIT's.
WRAPPERS = ("state_dict", "model")
# Prefixes of every key: of DistributedDataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")
HEAD_WIDTH = 64
# Channels per head of published models by a tower's width, where they are not 64: OpenCLIP's H, g and bigG, SO400M.
VISION_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1152: 72}
TEXT_HEAD_WIDTHS = {1152: 72}
LARGE_VOCABULARY = 100_000
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
        raise DataError(f"{path} holds no weights: it is not a file that torch.save wrote") from error
    return _unwrapped(content, path)


def settings_of(
    state: Mapping[str, Tensor], quick_gelu: bool | None = None, head_width: int | None = None
) -> ClipSpec:
    """Infer the architecture from the shapes of a state dict.

    Args:
        state: of any of the three layouts.
        quick_gelu: activation, which shapes do not show. None: QuickGELU if the keys are those of OpenAI's own
            archive, else GELU. Pass true for OpenAI's weights from elsewhere: with GELU they lose about 2.7 points.
        head_width: channels per head, which shapes do not show either. None: those of the published model of this
            width (`VISION_HEAD_WIDTHS`), or 64, as in all nine models of the paper.

    Raises:
        DataError: it is not a CLIP with a Vision Transformer or a ResNet.
    """
    weights, extras = named_as_here(state)
    text_width = _size(weights, "text.ln_final.weight", 0)
    siglip = "visual.attn_pool.probe" in weights
    text: dict[str, object] = {
        "context_length": _size(weights, "text.positional_embedding", 0),
        "vocabulary": _size(weights, "text.token_embedding.weight", 0),
        "width": text_width,
        "layers": _count(weights, "text.transformer.resblocks."),
        "heads": max(1, text_width // (head_width or TEXT_HEAD_WIDTHS.get(text_width, HEAD_WIDTH))),
        **_block(weights, "text.", text_width),
    }
    biased = "text.text_projection.weight" in weights
    raw: dict[str, object] = {
        "embed_dim": _size(weights, *(("text.text_projection.weight", 0) if biased else ("text.text_projection", 1))),
        "quick_gelu": bool(extras) if quick_gelu is None else quick_gelu,
        "vision": (_vit if _is_vit(weights) else _resnet)(weights, head_width),
        "text": text | ({"projection_bias": True} if biased else {}),
    }
    if siglip:
        # SigLIP 2 has a vocabulary of its own, in which the filling is 0.
        pad = 1 if _size(weights, "text.token_embedding.weight", 0) < LARGE_VOCABULARY else 0
        raw["text"] = {**text, "causal": False, "pool": "last", "pad": pad, "projection_bias": biased}
        raw |= {"gelu": "tanh", "norm_eps": 1e-6, "images": SIGLIP_IMAGES}
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
    for key in ("logit_scale", "logit_bias"):
        if key in weights and weights[key].numel() == 1:
            weights[key] = weights[key].reshape(())  # sharded training saves it as one row
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
        assumed.append(f"heads are taken to be {assumed_head_width(spec)} channels wide, which no shape tells")
        if spec.gelu == "tanh":
            assumed.append("the activation is taken to be GELU by tanh, with which SigLIP was trained")
        elif quick_gelu is None and not spec.quick_gelu:
            assumed.append("the activation is taken to be GELU: give quick_gelu: true for OpenAI's weights")
    elif quick_gelu is not None:
        spec = spec.model_copy(update={"quick_gelu": quick_gelu})
    model = Clip(spec, init_logit_bias=0.0 if "logit_bias" in state else None)
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
    if is_siglip(state):
        state = from_siglip(state)
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
    side, size, channels = grid_side(embedding), math.isqrt(wanted[0]), embedding.shape[1]
    # Rows before the grid: one for the class token or the mean, none where there is neither.
    first = len(embedding) - side**2
    if side < 1 or first not in (0, 1) or first != wanted[0] - size**2:
        return None
    grid = embedding[first:].float().reshape(1, side, side, channels).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([embedding[:first].float(), grid.permute(0, 2, 3, 1).reshape(size * size, channels)])


def grid_side(embedding: Tensor) -> int:
    return math.isqrt(len(embedding))


def _size(weights: Mapping[str, Tensor], key: str, axis: int) -> int:
    if key not in weights:
        raise DataError(f"the weights lack {key!r}, so they are not those of a CLIP in OpenAI's or open_clip's layout")
    if weights[key].ndim <= axis:
        raise DataError(f"{key!r} has the shape {tuple(weights[key].shape)}, which no CLIP of this layout has")
    return weights[key].shape[axis]


def _grid(weights: Mapping[str, Tensor], key: str, first: int = 1) -> int:
    """Return the side of the square of positions; one further row is the class token's or the mean's."""
    positions = _size(weights, key, 0) - first
    side = math.isqrt(max(0, positions))
    if side < 1 or side**2 != positions:
        more = " and one more" if first else ""
        raise DataError(f"{key!r} has {positions + first} rows, which are no square of positions{more}")
    return side


def _is_vit(weights: Mapping[str, Tensor]) -> bool:
    return any(key in weights for key in ("visual.proj", "visual.class_embedding", "visual.attn_pool.probe"))


def assumed_head_width(spec: ClipSpec) -> int:
    """Return the channels per head of the image tower that `settings_of` assumes, for messages."""
    vision = spec.vision
    return HEAD_WIDTH if isinstance(vision, ResNetSpec) else VISION_HEAD_WIDTHS.get(vision.width, HEAD_WIDTH)


def ratio_of(hidden: int, width: int) -> float:
    """Return the `mlp_ratio` that gives this number of channels: as published, four decimals, where that suffices."""
    if hidden % width == 0:
        return hidden / width
    short = math.ceil(10_000 * hidden / width) / 10_000
    if int(width * short) == hidden:
        return short
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _block(weights: Mapping[str, Tensor], tower: str, width: int) -> dict[str, object]:
    """Return what a tower's first block shows of its style, where it is not CLIP's."""
    found: dict[str, object] = {}
    place = f"{tower}transformer.resblocks.0."
    if f"{place}mlp.c_fc.weight" in weights:
        found["mlp_ratio"] = ratio_of(_size(weights, f"{place}mlp.c_fc.weight", 0), width)
    if f"{place}ls_1.gamma" in weights:
        found["layer_scale"] = 1e-5  # an initial value, which the weights replace
    return found


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of numbered children of a module."""
    numbers = [key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)]
    return len(set(numbers))


def _vit(weights: Mapping[str, Tensor], head_width: int | None) -> dict[str, object]:
    width = _size(weights, "visual.ln_post.weight", 0)
    attention, token = "visual.attn_pool.probe" in weights, "visual.class_embedding" in weights
    convolutions = sum(key.startswith("visual.conv1.") and weights[key].ndim == 4 for key in weights)
    # The last convolution of the stem does not halve the sides.
    stem = "patch" if "visual.conv1.weight" in weights else "convolutions"
    patch = _size(weights, "visual.conv1.weight", 2) if stem == "patch" else 2 ** max(0, convolutions - 1)
    return {
        "image_size": patch * _grid(weights, "visual.positional_embedding", int(token)),
        "patch_size": patch,
        "width": width,
        "layers": _count(weights, "visual.transformer.resblocks."),
        "heads": max(1, width // (head_width or VISION_HEAD_WIDTHS.get(width, HEAD_WIDTH))),
        "stem": stem,
        "pool": "attention" if attention else "class" if token else "mean",
        "pre_norm": "visual.ln_pre.weight" in weights,
        "patch_bias": "visual.conv1.bias" in weights,
        "projection": "visual.proj" in weights,
        **_block(weights, "visual.", width),
    }


def _resnet(weights: Mapping[str, Tensor], head_width: int | None) -> dict[str, object]:
    width = _size(weights, "visual.layer1.0.conv1.weight", 0)
    return {
        "kind": "resnet",
        "image_size": 32 * _grid(weights, "visual.attnpool.positional_embedding"),
        "layers": tuple(_count(weights, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)),
        "width": width,
        "heads": max(1, 32 * width // (head_width or HEAD_WIDTH)),
    }
