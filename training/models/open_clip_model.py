"""Train any model of open_clip: CLIP, CoCa, and towers of timm or Hugging Face, through `model.name` by dotted name.

```yaml
model:
  name: openwit.training.models.open_clip_model.open_clip_model
  architecture: ViT-B-16-SigLIP
  tokenizer: siglip/tokenizer.json    # of the model that open_clip names; none where it has CLIP's tokenizer
```

Image size, context, vocabulary, preprocessing and cleaning of texts are open_clip's (`describe`), unless they are set.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import one_line
from openwit.training.models.open_clip_features import open_clip_features
from openwit.training.tokenizer.file_tokenizer import is_tokenizer_file

EXTRA = "openwit[open_clip]"
# Names under which open_clip, timm and transformers keep the layers of a tower.
_STACKS = ("resblocks", "blocks", "layers", "layer")
_IMAGES = {"mean": "mean", "std": "std", "interpolation": "interpolation", "resize_mode": "resize"}


class OpenClipTowers(nn.Module):
    """A model of open_clip with the two methods that training needs.

    Texts of CLIP's tokenizer arrive trimmed to the longest of a batch; open_clip's towers take the whole context, so
    zeros are added.

    Args:
        model: of open_clip, with `encode_image` and `encode_text`.
        context_length: tokens of the longest text.
    """

    def __init__(self, model: nn.Module, context_length: int) -> None:
        super().__init__()
        self.model = model
        self.context_length = context_length
        for name in ("logit_scale", "logit_bias"):
            # The temperature that is trained is `CustomTowers`'; a second one would only be kept.
            if isinstance(getattr(model, name, None), nn.Parameter):
                getattr(model, name).requires_grad_(False)

    def encode_image(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, D)."""
        model: Any = self.model
        embedded: Tensor = model.encode_image(images)
        return embedded

    def encode_image_features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, width), before the projection, see `open_clip_features`."""
        return open_clip_features(self.model, images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Map (B, L) ids, L up to the context length, to (B, D)."""
        model: Any = self.model
        embedded: Tensor = model.encode_text(F.pad(tokens, (0, self.context_length - tokens.shape[1])))
        return embedded

    def blocks(self) -> list[nn.Module]:
        """Return the layers of both towers, to be sharded, compiled or computed again one by one."""
        found: list[nn.Module] = []
        inside: set[int] = set()
        for name, module in self.model.named_modules():
            stacked = isinstance(module, nn.ModuleList | nn.Sequential) and name.rpartition(".")[2] in _STACKS
            if not stacked or name.startswith("text_decoder.") or id(module) in inside:
                continue
            found += module.children()
            inside.update(id(part) for part in module.modules())
        return found


def open_clip_model(
    architecture: str,
    image_size: int = 224,
    context_length: int = 77,
    vocabulary: int = 49_408,
    tokenizer: Path | None = None,
    images_of: str | None = None,  # noqa: ARG001
) -> OpenClipTowers:
    """Return a new model of open_clip, with initial weights from torch's generator.

    Args:
        architecture: a name of `open_clip.list_models()`.
        image_size, context_length, vocabulary, tokenizer: of the configuration, compared with the model's.
        images_of: see `describe`.

    Raises:
        RecipeError: open_clip is missing, has no such model, or the sizes or the tokenizer are not the model's.
    """
    open_clip, config = _opened(architecture)
    found = _sizes(config)
    given = {"image_size": image_size, "context_length": context_length, "vocabulary": vocabulary}
    for name, value in found.items():
        if given[name] != value:
            raise RecipeError(f"open_clip's {architecture} has {name} {value}: set model.{name}: {value}")
    _check_tokenizer(architecture, config.get("text_cfg", {}), tokenizer)
    model = open_clip.create_model(architecture, pretrained=None, precision="fp32")
    _without_decoder(model)
    return OpenClipTowers(model, context_length)


def describe(architecture: str, images_of: str | None = None) -> dict[str, Any]:
    """Return sizes, preprocessing and cleaning of texts, as open_clip has them.

    Args:
        architecture: a name of `open_clip.list_models()`.
        images_of: tag of published weights whose preprocessing is taken; None: that of all tags if they agree, else
            open_clip's default, which is OpenAI's.

    Raises:
        RecipeError: see `open_clip_model`; or there is no such tag.
    """
    open_clip, config = _opened(architecture)
    found: dict[str, Any] = {**_sizes(config), "images": _images(open_clip, architecture, images_of)}
    text = config.get("text_cfg", {})
    if text.get("hf_tokenizer_name"):
        found["clean"] = text.get("tokenizer_kwargs", {}).get("clean", "whitespace")
    return found


open_clip_model.describe = describe  # type: ignore[attr-defined]


def _opened(architecture: str) -> tuple[Any, Mapping[str, Any]]:
    try:
        import open_clip
    except ImportError as error:
        raise RecipeError(f"open_clip cannot be imported ({error}): pip install '{EXTRA}'") from error
    except RuntimeError as error:  # of torchvision's operators
        raise RecipeError(f"open_clip needs a torchvision built for this torch, not {one_line(error)}") from error
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise RecipeError(f"open_clip has no model {architecture!r}: see open_clip.list_models()")
    return open_clip, config


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    text = config.get("text_cfg", {})
    return {
        "image_size": _side(config.get("vision_cfg", {}).get("image_size", 224)),
        "context_length": text.get("context_length", 77),
        "vocabulary": text.get("vocab_size", 49_408),
    }


def _images(open_clip: Any, architecture: str, tag: str | None) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag is not None and tag not in tags:
        known = ", ".join(tags) or "none"
        raise RecipeError(f"model.images_of: open_clip's {architecture} has no weights {tag!r}: known are {known}")
    found = []
    for each in tags if tag is None else [tag]:
        stated = open_clip.get_pretrained_cfg(architecture, each)
        found.append({ours: stated[theirs] for theirs, ours in _IMAGES.items() if stated.get(theirs) is not None})
    return found[0] if found and all(each == found[0] for each in found) else {}


def _check_tokenizer(architecture: str, text: Mapping[str, Any], tokenizer: Path | None) -> None:
    name = text.get("hf_tokenizer_name")
    if not name:
        if is_tokenizer_file(tokenizer):
            raise RecipeError(f"open_clip's {architecture} reads CLIP's tokens: leave model.tokenizer out")
        return
    if not is_tokenizer_file(tokenizer):
        raise RecipeError(
            f"open_clip's {architecture} reads the tokens of {name}: set model.tokenizer to its tokenizer.json, with "
            "its tokenizer_config.json beside it"
        )
    strange = [key for key, value in text.get("tokenizer_kwargs", {}).items() if key != "clean" and value]
    strange += ["tokenizer_mode"] if text.get("tokenizer_mode") else []
    if strange:
        raise RecipeError(f"open_clip's {architecture} has {strange[0]}, which tokenizers here do not have")


def _without_decoder(model: nn.Module) -> None:
    """Freeze CoCa's decoder of captions, which the two towers' objectives do not reach."""
    decoder = getattr(model, "text_decoder", None)
    if isinstance(decoder, nn.Module):
        decoder.requires_grad_(False)


def _side(size: Any) -> Any:
    return size[0] if isinstance(size, list) else size
