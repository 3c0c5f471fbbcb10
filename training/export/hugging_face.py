"""Write Hugging Face's layout: what `from_pretrained` of CLIPModel or SiglipModel, and of their processors, read."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.images import ImageSpec, pillow_number
from openwit.training.config.zoo import ClipSpec, VisionSpec
from openwit.training.export.metadata import file_metadata
from openwit.training.export.tokenizer_files import write_tokenizer
from openwit.training.models.clip import INITIAL_LOGIT_SCALE
from openwit.training.models.hugging_face import to_hugging_face
from openwit.training.models.siglip import to_transformers
from openwit.training.models.siglip_config import is_siglip_spec, siglip_config
from openwit.training.models.tower_config import tower_config

WEIGHTS = "model.safetensors"


def write_hugging_face(source: LoadedModel, folder: Path) -> tuple[str, ...]:
    """Write weights, configuration, preprocessing and tokenizer into an existing folder.

    Returns:
        Sentences on what the layout cannot store.

    Raises:
        RecipeError: transformers has no such architecture.
    """
    spec = source.model.spec
    siglip = is_siglip_spec(spec)
    config = siglip_config(spec) if siglip else model_config(spec)
    notes: tuple[str, ...] = ()
    state = source.model.state_dict()
    if siglip and source.logit_bias is None:
        state["logit_bias"] = torch.zeros(())
        notes = ("SiglipModel has a logit bias, which the model was trained without: it is 0",)
    elif source.logit_bias is not None and not siglip:
        notes = (
            f"transformers' CLIP has no logit bias, so {source.logit_bias:.4f} is left out; embeddings "
            "and rankings do not depend on it",
        )
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", preprocessing(spec.vision.image_size, spec.images, siglip=siglip))
    write_tokenizer(source.tokenizer, spec.text.context_length, folder, pad=spec.text.pad)
    save_file(
        (to_transformers if siglip else to_hugging_face)(state), folder / WEIGHTS, metadata=file_metadata(source)
    )
    return notes


def model_config(spec: ClipSpec) -> dict[str, Any]:
    """Return transformers' config.json of a CLIP.

    The id of the end of text must be given: with `eos_token_id` 2, which older files have, transformers pools at the
    arg-max of the ids, and with any other id at its first occurrence. Both are the same position here, and the second
    remains correct if tokens are added.

    Raises:
        RecipeError: it is a ResNet, or has a stem of convolutions.
    """
    vision = spec.vision
    if not isinstance(vision, VisionSpec):
        raise RecipeError("transformers' CLIP has no ResNet image tower: export to open_clip or onnx instead")
    unlike = [name for name in spec.unlike_clip if name not in ("gelu", "norm_eps")]
    unlike += ["layer_scale" for tower in (vision, spec.text) if tower.layer_scale is not None]
    if unlike:
        raise RecipeError(f"transformers' CLIP has no {unlike[0]} as here: export to onnx instead")
    if vision.stem == "convolutions":
        raise RecipeError("transformers' CLIP has no image tower with a stem of convolutions: export to onnx instead")
    end = spec.text.vocabulary - 1
    text = {
        **tower_config(spec, spec.text),
        "projection_dim": spec.embed_dim,
        "model_type": "clip_text_model",
        "vocab_size": spec.text.vocabulary,
        "max_position_embeddings": spec.text.context_length,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    image = {
        **tower_config(spec, vision),
        "projection_dim": spec.embed_dim,
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


def preprocessing(size: int, images: ImageSpec, *, siglip: bool = False) -> dict[str, Any]:
    """Return transformers' preprocessor_config.json.

    Raises:
        RecipeError: transformers has no such fit.
    """
    if images.resize == "longest":
        raise RecipeError("transformers' CLIPImageProcessor puts nothing around an image: export to open_clip instead")
    is_square = images.resize == "squash"
    kind = "Siglip" if siglip and is_square else "CLIP"
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "feature_extractor_type": f"{kind}FeatureExtractor",
        "processor_class": f"{'Siglip' if siglip else 'CLIP'}Processor",
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


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")
