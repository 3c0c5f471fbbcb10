"""Write open_clip's layout: the folder that `open_clip.create_model("local-dir:...")` and its hub read."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.images import ImageSpec
from openwit.training.config.zoo import ResNetSpec, TextSpec, VisionSpec
from openwit.training.export.metadata import file_metadata
from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.models.clip import Clip
from openwit.training.models.weights import to_open_clip

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"


def write_open_clip(source: LoadedModel, folder: Path) -> None:
    """Write weights and configuration into an existing folder, and the tokenizer if it is not CLIP's own.

    Raises:
        RecipeError: open_clip has no such architecture.
    """
    config = {"model_cfg": model_config(source.model), "preprocess_cfg": preprocessing(source.model.spec.images)}
    if source.tokenizer.merges is not None:
        # open_clip then reads the tokenizer from the folder (with transformers) instead of its own vocabulary.
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
        write_tokenizer(source.tokenizer, source.model.spec.text.context_length, folder)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    save_file(to_open_clip(source.model), folder / WEIGHTS, metadata=file_metadata(source))


def model_config(model: Clip) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of an architecture (its CLIP, CLIPVisionCfg and CLIPTextCfg).

    Raises:
        RecipeError: the image tower has a stem of convolutions.
    """
    spec, vision = model.spec, model.spec.vision
    if spec.unlike_clip:
        raise RecipeError(f"open_clip's CLIP has no {spec.unlike_clip[0]} as here: export to onnx instead")
    tower: dict[str, Any] = {"image_size": vision.image_size, "layers": vision.layers, "width": vision.width}
    if isinstance(vision, ResNetSpec):
        tower |= {"layers": list(vision.layers), "head_width": vision.channels // vision.heads, "patch_size": None}
    elif vision.stem == "convolutions":
        raise RecipeError("open_clip has no image tower with a stem of convolutions: export to onnx instead")
    else:
        tower |= {"head_width": vision.width // vision.heads, "patch_size": vision.patch_size}
        tower |= _style(vision)
    text = spec.text
    config: dict[str, Any] = {
        "embed_dim": spec.embed_dim,
        "quick_gelu": spec.quick_gelu,
        "vision_cfg": tower,
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocabulary,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            **_style(text),
        },
    }
    if model.logit_bias is not None:
        config["init_logit_bias"] = float(model.logit_bias.detach())
    return config


def _style(tower: VisionSpec | TextSpec) -> dict[str, Any]:
    """Return what is not open_clip's default."""
    ratio = {} if tower.mlp_ratio == 4 else {"mlp_ratio": tower.mlp_ratio}
    return ratio if tower.layer_scale is None else {**ratio, "ls_init_value": tower.layer_scale}


def preprocessing(images: ImageSpec) -> dict[str, Any]:
    """Return open_clip's `preprocess_cfg`.

    Raises:
        RecipeError: open_clip has no such filter.
    """
    if images.interpolation in ("lanczos", "nearest"):
        raise RecipeError(f"open_clip has no {images.interpolation} interpolation: export to onnx instead")
    return {
        "mean": list(images.mean),
        "std": list(images.std),
        "interpolation": images.interpolation,
        "resize_mode": images.resize,
    }
