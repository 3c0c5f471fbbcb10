"""Write open_clip's layout: the folder that `open_clip.create_model("local-dir:...")` and its hub read."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.images import ImageSpec
from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.export.metadata import file_metadata
from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.models.clip import Clip
from openwit.training.models.weights import to_open_clip

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
# What is not CLIP's, but has a key in open_clip's configuration.
_REPRESENTED = ("gelu", "norm_eps", "vision.pre_norm", "text.causal", "text.projection_bias")


def write_open_clip(source: LoadedModel, folder: Path) -> None:
    """Write weights and configuration into an existing folder, and the tokenizer if it is not CLIP's own.

    Raises:
        RecipeError: open_clip has no such architecture.
    """
    config = {"model_cfg": model_config(source.model), "preprocess_cfg": preprocessing(source.model.spec.images)}
    if source.tokenizer.stored is not None:
        # open_clip then reads the tokenizer from the folder (with transformers) instead of its own vocabulary.
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "."
        text = source.model.spec.text
        write_tokenizer(source.tokenizer, text.context_length, folder, pad=text.pad)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    save_file(to_open_clip(source.model), folder / WEIGHTS, metadata=file_metadata(source))


def model_config(model: Clip) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of an architecture (its CLIP, CLIPVisionCfg and CLIPTextCfg).

    Raises:
        RecipeError: the image tower has a stem of convolutions.
    """
    spec, vision = model.spec, model.spec.vision
    unlike = [name for name in spec.unlike_clip if name not in _REPRESENTED]
    if unlike:
        raise RecipeError(f"open_clip's CLIP has no {unlike[0]} as here: export to hf or onnx instead")
    tower: dict[str, Any] = {"image_size": vision.image_size, "layers": vision.layers, "width": vision.width}
    if isinstance(vision, ResNetSpec):
        tower |= {"layers": list(vision.layers), "head_width": vision.channels // vision.heads, "patch_size": None}
    elif vision.stem == "convolutions":
        raise RecipeError("open_clip has no image tower with a stem of convolutions: export to onnx instead")
    else:
        tower |= {"head_width": vision.width // vision.heads, "patch_size": vision.patch_size}
        tower |= _style(spec, vision) | ({} if vision.pre_norm else {"no_ln_pre": True})
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
            **_style(spec, text),
            **({} if text.causal else {"no_causal_mask": True}),
            **({} if text.pool == "end" else {"pool_type": "last"}),
            **({"proj_bias": True} if text.projection_bias else {}),
        },
    }
    if model.logit_bias is not None:
        config["init_logit_bias"] = float(model.logit_bias.detach())
    return config


def _style(spec: ClipSpec, tower: VisionSpec | TextSpec) -> dict[str, Any]:
    """Return what is not open_clip's default."""
    found: dict[str, Any] = {} if tower.mlp_ratio == 4 else {"mlp_ratio": tower.mlp_ratio}
    if tower.layer_scale is not None:
        found["ls_init_value"] = tower.layer_scale
    if spec.norm_eps != 1e-5:
        found["norm_kwargs"] = {"eps": spec.norm_eps}
    if spec.gelu == "tanh" and not spec.quick_gelu:
        found["act_kwargs"] = {"approximate": "tanh"}
    return found


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
