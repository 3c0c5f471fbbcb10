"""Write Hugging Face's layout: what `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` read."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.images import ImageSpec, pillow_number
from openwit.training.config.zoo import ClipSpec, VisionSpec
from openwit.training.export.metadata import file_metadata
from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.models.clip import INITIAL_LOGIT_SCALE
from openwit.training.models.hugging_face import to_hugging_face

WEIGHTS = "model.safetensors"


def write_hugging_face(source: LoadedModel, folder: Path) -> tuple[str, ...]:
    """Write weights, configuration, preprocessing and tokenizer into an existing folder.

    Returns:
        Sentences on what the layout cannot store.

    Raises:
        RecipeError: transformers has no such architecture.
    """
    spec = source.model.spec
    config = model_config(spec)
    notes: tuple[str, ...] = ()
    if source.logit_bias is not None:
        notes = (
            f"transformers' CLIP has no logit bias, so {source.logit_bias:.4f} is left out; embeddings "
            "and rankings do not depend on it",
        )
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", preprocessing(spec.vision.image_size, spec.images))
    write_tokenizer(source.tokenizer, spec.text.context_length, folder)
    save_file(to_hugging_face(source.model.state_dict()), folder / WEIGHTS, metadata=file_metadata(source))
    return notes


def model_config(spec: ClipSpec) -> dict[str, Any]:
    """Return transformers' config.json.

    The id of the end of text must be given: with `eos_token_id` 2, which older files have, transformers pools at the
    arg-max of the ids, and with any other id at its first occurrence. Both are the same position here, and the second
    remains correct if tokens are added.

    Raises:
        RecipeError: it is a ResNet, or has a stem of convolutions.
    """
    vision = spec.vision
    if not isinstance(vision, VisionSpec):
        raise RecipeError("transformers' CLIP has no ResNet image tower: export to open_clip or onnx instead")
    scaled = [tower for tower in (vision, spec.text) if tower.layer_scale is not None or tower.mlp_ratio != 4]
    if spec.unlike_clip or scaled:
        name = spec.unlike_clip[0] if spec.unlike_clip else "layer_scale or mlp_ratio"
        raise RecipeError(f"transformers' CLIP has no {name} as here: export to onnx instead")
    if vision.stem == "convolutions":
        raise RecipeError("transformers' CLIP has no image tower with a stem of convolutions: export to onnx instead")
    end = spec.text.vocabulary - 1
    text = {
        **_tower(spec, spec.text.width, spec.text.layers, spec.text.heads),
        "model_type": "clip_text_model",
        "vocab_size": spec.text.vocabulary,
        "max_position_embeddings": spec.text.context_length,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    image = {
        **_tower(spec, vision.width, vision.layers, vision.heads),
        "model_type": "clip_vision_model",
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "num_channels": 3,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": spec.embed_dim,
        "logit_scale_init_value": INITIAL_LOGIT_SCALE,
        "initializer_factor": 1.0,
        "torch_dtype": "float32",
        "text_config": text,
        "vision_config": image,
    }


def preprocessing(size: int, images: ImageSpec) -> dict[str, Any]:
    """Return transformers' preprocessor_config.json.

    Raises:
        RecipeError: transformers has no such fit.
    """
    if images.resize == "longest":
        raise RecipeError("transformers' CLIPImageProcessor puts nothing around an image: export to open_clip instead")
    is_square = images.resize == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": size, "width": size} if is_square else {"shortest_edge": size},
        "resample": pillow_number(images),
        "do_center_crop": not is_square,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(images.mean),
        "image_std": list(images.std),
    }


def _tower(spec: ClipSpec, width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": spec.embed_dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu" if spec.quick_gelu else "gelu",
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
    }


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
