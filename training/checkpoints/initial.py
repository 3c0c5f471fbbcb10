"""Read weights to begin from, of any layout, and load them into a new model.

Strict: a tensor that is missing, unknown or of another shape is an error, as is an architecture that the file states
and the configuration contradicts. Only the logit bias may be absent on either side: it is the sigmoid objective's.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.atomic import sha256_of
from openwit.schemas.common.errors import DataError, OpenWITError, one_line
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import FOLDER, Checkpoint, find_checkpoint
from openwit.training.checkpoints.load import weights_of
from openwit.training.checkpoints.origin import Origin
from openwit.training.config.choices import Weights
from openwit.training.config.images import of_hugging_face
from openwit.training.config.init import InitSettings
from openwit.training.config.model import ModelSettings
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.hugging_face import from_hugging_face, spec_of_config
from openwit.training.models.open_clip import CONFIG as OPEN_CLIP_CONFIG
from openwit.training.models.open_clip import spec_of_open_clip
from openwit.training.models.siglip import is_siglip
from openwit.training.models.tower_config import dropped_out
from openwit.training.models.weights import (
    assumed_head_width,
    load_weights,
    named_as_here,
    resized_positions,
    settings_of,
    stored_spec,
)

HUGGING_FACE_CONFIG, HUGGING_FACE_IMAGES = "config.json", "preprocessor_config.json"
# In the order in which they are taken.
_FILES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors"),
    *("open_clip_pytorch_model.bin", "pytorch_model.bin"),
)
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_PREFIXES = {"both": ("",), "image": ("visual.",), "text": ("text.",)}
_OPTIONAL = "logit_bias"


@dataclass(frozen=True)
class InitWeights:
    """Weights that were read, and what is known of them.

    Attributes:
        path: as given.
        sha256: of the file; of several files, of their checksums.
        state: tensors by our names.
        spec: architecture; None for a model given by dotted name.
        stated: whether the file states heads and activation, which shapes do not show.
        notes: sentences on what was assumed.
        tokenizer: that a checkpoint holds (`stored`); None: CLIP's, or not known.
        origin: of a checkpoint.
    """

    path: Path
    sha256: str
    state: dict[str, Tensor]
    spec: ClipSpec | None
    stated: bool = True
    notes: tuple[str, ...] = ()
    tokenizer: Any = None
    origin: Origin | None = None


def read_init(
    path: Path,
    *,
    use: Weights = Weights.MODEL,
    quick_gelu: bool | None = None,
    custom: bool = False,
    report: Callable[[str], None],
) -> InitWeights:
    """Read weights of any layout: see `InitSettings.weights`.

    Args:
        path: file or folder.
        use: of a checkpoint of ours: the weights or their moving average.
        quick_gelu: activation of a file that does not state it.
        custom: they are for a model given by dotted name; names are kept, and no architecture is read from them.
        report: receives a sentence for each damaged checkpoint that is skipped.

    Raises:
        DataError: there are no weights, they are damaged, or of an architecture that is not built here.
    """
    refuse_special(path, str(path))
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if (path / FOLDER).is_dir() or (path.is_file() and _is_checkpoint(path)):
        return _of_checkpoint(path, find_checkpoint(path, report), use)
    if use is not Weights.MODEL:
        raise DataError(f"{path} is no checkpoint of ours, so it holds no moving average: leave init.use out")
    folder = path if path.is_dir() else path.parent
    state, digest, file = _tensors(path)
    if custom:
        bare = not any(key.startswith("towers.") for key in state)
        return InitWeights(path, digest, {f"towers.{k}": v for k, v in state.items()} if bare else state, None)
    siglip = is_siglip(state)
    hugging_face = any(key.startswith(("vision_model.", "text_model.")) for key in state)
    # A SigLIP in a single file without its folder has what its shapes tell.
    hugging_face = hugging_face and not (siglip and not (folder / HUGGING_FACE_CONFIG).is_file() and path.is_file())
    state = from_hugging_face(state) if hugging_face and not siglip else state
    notes: tuple[str, ...] = ()
    spec = None if file is None or hugging_face else stored_spec(file)
    if spec is None and hugging_face:
        spec, notes = _of_hugging_face(folder)
    elif spec is None and not siglip and (folder / OPEN_CLIP_CONFIG).is_file():
        stated = _json(folder / OPEN_CLIP_CONFIG)
        with _values_of(folder / OPEN_CLIP_CONFIG):
            spec = spec_of_open_clip(stated, str(folder / OPEN_CLIP_CONFIG))
    named, extras = named_as_here(state)
    if spec is not None:
        return InitWeights(path, digest, named, spec, notes=notes)
    return _by_shapes(path, digest, state, named, quick_gelu=quick_gelu, archive=bool(extras))


def _by_shapes(
    path: Path,
    digest: str,
    state: Mapping[str, Tensor],
    named: dict[str, Tensor],
    *,
    quick_gelu: bool | None,
    archive: bool,
) -> InitWeights:
    spec = settings_of(state, quick_gelu)
    notes = [f"heads are taken to be {assumed_head_width(spec)} channels wide, which no shape tells"]
    if archive:
        notes.append("these are OpenAI's weights, trained with QuickGELU")
    elif spec.gelu == "tanh":
        notes.append("the activation is taken to be GELU by tanh, with which SigLIP was trained")
    elif quick_gelu is None:
        notes.append("the file does not state the activation: set model.quick_gelu: true for weights of OpenAI's")
    return InitWeights(path, digest, named, spec, stated=False, notes=tuple(notes))


def _of_hugging_face(folder: Path) -> tuple[ClipSpec, tuple[str, ...]]:
    config = _json(folder / HUGGING_FACE_CONFIG)
    with _values_of(folder / HUGGING_FACE_CONFIG):
        spec = spec_of_config(config, str(folder / HUGGING_FACE_CONFIG))
        notes = tuple(dropped_out(config))
    beside = folder / HUGGING_FACE_IMAGES
    if beside.is_file():
        images = _json(beside)
        with _values_of(beside):
            spec = spec.model_copy(update={"images": of_hugging_face(images)})
    return spec, notes


@contextmanager
def _values_of(path: Path) -> Iterator[None]:
    """Report a value of another program's configuration that has another type or size than it can have.

    Raises:
        DataError: there is one.
    """
    try:
        yield
    except OpenWITError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise DataError(
            f"{path} has a value of another type or size than such files have: {one_line(error)}"
        ) from error


def load_init(model: nn.Module, source: InitWeights, settings: InitSettings) -> Origin:
    """Load weights into a new model, which is not changed if they do not fit; return what was loaded and what was not.

    Raises:
        DataError: they do not fit; names the first difference and the remedy.
    """
    expected = model.state_dict()
    source = _within_adapter(source, expected)
    prefixes = _PREFIXES[settings.parts]
    chosen = {key: tensor for key, tensor in source.state.items() if key.startswith(prefixes)}
    notes = list(source.notes)
    _check_spec(source, getattr(model, "spec", None), settings, notes)
    for key in ("logit_scale", "logit_bias"):
        if key in chosen and chosen[key].numel() == 1:
            chosen[key] = chosen[key].reshape(())  # sharded training and SiglipModel save it as one row
    if settings.resize:
        _resize(chosen, expected, model, notes)
    _check_tensors(chosen, expected, prefixes, source.path)
    loaded = [key for key in expected if key in chosen]
    with torch.no_grad():
        for key in loaded:
            expected[key].copy_(chosen[key])
    left_out = [key for key in source.state if key not in expected or key not in chosen]
    initial = [key for key in expected if key not in chosen and not key.endswith("num_batches_tracked")]
    return Origin(
        kind="weights",
        path=str(source.path),
        sha256=source.sha256,
        loaded=len(loaded),
        left_out=left_out,
        initial=initial,
        notes=notes,
        before=source.origin,
    )


def _within_adapter(source: InitWeights, expected: Mapping[str, Tensor]) -> InitWeights:
    """Return weights of open_clip with the names that they have in a model of our adapter to it."""
    if source.spec is not None or any(key in expected for key in source.state):
        return source
    nested = {key.replace("towers.", "towers.model.", 1): tensor for key, tensor in source.state.items()}
    if not any(key in expected for key in nested):
        return source
    trained = {key: nested[f"towers.model.{key}"] for key in ("logit_scale", "logit_bias") if key in expected
               and f"towers.model.{key}" in nested}  # fmt: skip
    return replace(source, state={**nested, **trained})


def architecture(source: InitWeights, settings: InitSettings) -> ClipSpec:
    """Return the architecture of weights, at the sizes that the settings ask for.

    Raises:
        DataError: it is not known.
    """
    if source.spec is None:
        raise DataError(f"{source.path} is of a model given by dotted name: give model.name")
    spec = source.spec
    if settings.image_size is not None:
        sized = {**spec.vision.model_dump(), "image_size": settings.image_size}
        vision = parse_settings(sized, type(spec.vision), "model.init")
        spec = spec.model_copy(update={"vision": vision})
    if settings.context_length is not None:
        text = spec.text.model_copy(update={"context_length": settings.context_length})
        spec = spec.model_copy(update={"text": text})
    return spec


def _check_spec(source: InitWeights, wanted: ClipSpec | None, settings: InitSettings, notes: list[str]) -> None:
    """Compare what shapes do not show: heads and activation."""
    found = source.spec
    if wanted is None or found is None:
        return
    towers = {"both": ("vision", "text"), "image": ("vision",), "text": ("text",)}[settings.parts]
    for tower in towers:
        one, other = getattr(found, tower), getattr(wanted, tower)
        if source.stated and type(one) is type(other) and one.heads != other.heads:
            raise DataError(
                f"{source.path} has {tower}.heads {one.heads}, but the model has {other.heads}: leave model.name and "
                "model.spec out to take the architecture of the weights"
            )
    if source.stated and found.images != wanted.images:
        notes.append(f"{source.path} is for images with {found.images}, but the model has {wanted.images}")
    for key in ("gelu", "norm_eps"):
        one, other = getattr(found, key), getattr(wanted, key)
        if one != other:
            said = f"{source.path} is for {key} {one}, but the model has {other}"
            if source.stated:
                raise DataError(f"{said}: set {key} in model.spec, or leave model.name and model.spec out")
            notes.append(said)
    if found.quick_gelu != wanted.quick_gelu:
        names = {True: "QuickGELU", False: "GELU"}
        said = f"{source.path} is for {names[found.quick_gelu]}, but the model has {names[wanted.quick_gelu]}"
        if source.stated:
            raise DataError(f"{said}: set model.quick_gelu: {str(found.quick_gelu).lower()}")
        notes.append(said)


def _resize(chosen: dict[str, Tensor], expected: Mapping[str, Tensor], model: nn.Module, notes: list[str]) -> None:
    for key in ("visual.positional_embedding", "visual.attnpool.positional_embedding"):
        if key in chosen and key in expected:
            resized = resized_positions(chosen[key], expected[key].shape)
            if resized is not None:
                notes.append(f"{key} was interpolated (bicubic) from {len(chosen[key])} to {len(resized)} positions")
                chosen[key] = resized
    key = "text.positional_embedding"
    if key not in chosen or key not in expected or chosen[key].shape == expected[key].shape:
        return
    found, wanted = chosen[key], expected[key].shape
    if found.ndim != 2 or found.shape[1:] != wanted[1:]:
        return
    causal = getattr(getattr(getattr(model, "text", None), "transformer", None), "causal", True)
    if len(found) > wanted[0] and causal:
        chosen[key] = found[: wanted[0]].clone()
        notes.append(f"{key} was cut from {len(found)} to {wanted[0]} positions: texts that fit embed as before")
    else:
        lines = F.interpolate(found.float().T[None], size=wanted[0], mode="linear", align_corners=False)
        chosen[key] = lines[0].T.contiguous()
        notes.append(f"{key} was interpolated (linear) from {len(found)} to {wanted[0]} positions")


def _check_tensors(
    chosen: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefixes: tuple[str, ...], path: Path
) -> None:
    for key in expected:
        wanted = key.startswith(prefixes) and key != _OPTIONAL and not key.endswith("num_batches_tracked")
        if wanted and key not in chosen:
            raise DataError(f"{path} lacks {key!r}, which the model has")
    for key, tensor in chosen.items():
        if key not in expected:
            if key != _OPTIONAL:
                raise DataError(f"{path} holds {key!r}, which the model does not have")
        elif tensor.shape != expected[key].shape:
            found, shape = tuple(tensor.shape), tuple(expected[key].shape)
            more = ": set model.init.resize: true to fit it" if key.endswith("positional_embedding") else ""
            raise DataError(f"{key!r} has the shape {found} in {path}, but {shape} in the model{more}")


def holds_weights(folder: Path) -> bool:
    """Return whether a folder holds weights of another program, or of an export of ours."""
    return any((folder / name).is_file() for name in (*_FILES, *_INDEXES))


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".pt" and path.with_suffix(".json").is_file()


def _of_checkpoint(path: Path, checkpoint: Checkpoint, use: Weights) -> InitWeights:
    info = checkpoint.info
    model = info.config.model
    spec = model.resolved() if isinstance(model, ModelSettings) else None
    tokenizer = checkpoint.state.get("tokenizer")
    state = weights_of(checkpoint, use)
    return InitWeights(path, info.sha256, dict(state), spec, tokenizer=tokenizer, origin=info.origin)


def _tensors(path: Path) -> tuple[dict[str, Tensor], str, Path | None]:
    """Return the tensors of a file or folder, their checksum, and the file if it is a single one."""
    if path.is_file():
        return load_weights(path), sha256_of(path), path
    for name in _FILES:
        if (path / name).is_file():
            return load_weights(path / name), sha256_of(path / name), path / name
    for name in _INDEXES:
        if (path / name).is_file():
            listed = _json(path / name).get("weight_map")
            found = list(listed.values()) if isinstance(listed, dict) else []
            if not found or any(not isinstance(file, str) or Path(file).name != file for file in found):
                raise DataError(f"{path / name} names no files of weights beside it")
            files = sorted(set(found))
            state = {key: tensor for file in files for key, tensor in load_weights(path / file).items()}
            sums = "".join(sha256_of(path / file) for file in files)
            return state, hashlib.sha256(sums.encode()).hexdigest(), None
    raise DataError(f"{path} holds neither checkpoints nor weights ({', '.join(_FILES)})")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist, and the weights' names do not state the architecture") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no settings")
    return found
