"""Train any model of open_clip: CLIP, CoCa, and towers of timm or Hugging Face, through `model.name` by dotted name.

```yaml
model:
  name: openwit.training.models.open_clip_model.open_clip_model
  architecture: ViT-B-32
  image_size: 224        # of open_clip's configuration of this model; another size is refused
  context_length: 77
```
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import one_line

EXTRA = "openwit[open_clip]"


class OpenClipTowers(nn.Module):
    """A model of open_clip with the two methods that training needs.

    Texts arrive trimmed to the longest of a batch; open_clip's towers take the whole context, so zeros are added.

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

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Map (B, L) ids, L up to the context length, to (B, D)."""
        model: Any = self.model
        embedded: Tensor = model.encode_text(F.pad(tokens, (0, self.context_length - tokens.shape[1])))
        return embedded


def open_clip_model(
    architecture: str, image_size: int = 224, context_length: int = 77, vocabulary: int = 49_408
) -> OpenClipTowers:
    """Return a new model of open_clip, with initial weights from torch's generator.

    Args:
        architecture: a name of `open_clip.list_models()`.
        image_size, context_length, vocabulary: of the configuration, compared with the model's.

    Raises:
        RecipeError: open_clip is missing, has no such model, or the sizes are not the model's.
    """
    try:
        import open_clip
    except ImportError as error:
        raise RecipeError(f"open_clip cannot be imported ({error}): pip install '{EXTRA}'") from error
    except RuntimeError as error:  # of torchvision's operators
        raise RecipeError(f"open_clip needs a torchvision built for this torch, not {one_line(error)}") from error
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise RecipeError(f"open_clip has no model {architecture!r}: see open_clip.list_models()")
    text = config.get("text_cfg", {})
    found = {
        "image_size": _side(config.get("vision_cfg", {}).get("image_size", 224)),
        "context_length": text.get("context_length", 77),
        "vocabulary": text.get("vocab_size", 49_408),
    }
    given = {"image_size": image_size, "context_length": context_length, "vocabulary": vocabulary}
    for name, value in found.items():
        if given[name] != value:
            raise RecipeError(f"open_clip's {architecture} has {name} {value}: set model.{name}: {value}")
    if text.get("hf_tokenizer_name"):
        raise RecipeError(
            f"open_clip's {architecture} reads the tokens of {text['hf_tokenizer_name']}, which this release does not "
            "make: choose a model with CLIP's vocabulary"
        )
    model = open_clip.create_model(architecture, pretrained=None, precision="fp32")
    _without_decoder(model)
    return OpenClipTowers(model, context_length)


def _without_decoder(model: nn.Module) -> None:
    """Freeze CoCa's decoder of captions, which the two towers' objectives do not reach."""
    decoder = getattr(model, "text_decoder", None)
    if isinstance(decoder, nn.Module):
        decoder.requires_grad_(False)


def _side(size: Any) -> Any:
    return size[0] if isinstance(size, list) else size
