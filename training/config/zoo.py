"""Named architectures as data: the paper's nine models (tables 19 and 20 of arXiv 2103.00020) and small ones."""

from typing import Annotated, Literal

import pydantic

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings
from openwit.training.config.images import ImageSpec
from openwit.training.config.limits import (
    LARGEST_IMAGE,
    LARGEST_WIDTH,
    LONGEST_CONTEXT,
    MOST_LAYERS,
    MOST_TOKEN_IDS,
)
from openwit.training.tokenizer.vocabulary import VOCABULARY_SIZE

Blocks = Annotated[int, pydantic.Field(ge=1, le=MOST_LAYERS)]


class InputSpec(Settings):
    """Sizes of the images and texts that a model takes; all that loaders and evaluators need to know about a model."""

    image_size: int = pydantic.Field(ge=1, le=LARGEST_IMAGE, description="side of the square input, pixels")
    context_length: int = pydantic.Field(
        ge=3, le=LONGEST_CONTEXT, description="tokens, start and end of text included"
    )
    vocabulary: int = pydantic.Field(VOCABULARY_SIZE, ge=1, le=MOST_TOKEN_IDS, description="number of token ids")
    images: ImageSpec = pydantic.Field(ImageSpec(), description="preprocessing of the images")


class VisionSpec(Settings):
    """Image tower: a Vision Transformer."""

    kind: Literal["vit"] = pydantic.Field("vit", description="vit here; resnet takes the settings of `ResNetSpec`")
    image_size: int = pydantic.Field(224, ge=1, le=LARGEST_IMAGE, description="side of the square input, pixels")
    patch_size: int = pydantic.Field(
        32, ge=1, le=LARGEST_IMAGE, description="side of a patch, pixels; divides image_size"
    )
    width: int = pydantic.Field(768, ge=1, le=LARGEST_WIDTH, description="channels of the residual stream")
    layers: int = pydantic.Field(12, ge=1, le=MOST_LAYERS, description="transformer blocks")
    heads: int = pydantic.Field(12, ge=1, le=LARGEST_WIDTH, description="attention heads; divide width")
    stem: Literal["patch", "convolutions"] = pydantic.Field(
        "patch",
        description="patch: one linear map a patch (the paper); convolutions: 3x3 ones, each halving the image",
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "VisionSpec":
        if self.stem == "convolutions" and (self.patch_size < 4 or self.patch_size & (self.patch_size - 1)):
            raise ValueError(f"patch_size {self.patch_size} must be a power of two, 4 or more, for stem: convolutions")
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide image_size {self.image_size}")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self

    @property
    def has_patches(self) -> bool:
        """True: patches can be dropped."""
        return True

    @property
    def position_embedding(self) -> str:
        """Key of the position embedding in the state dict of a model."""
        return "visual.positional_embedding"

    @property
    def patches(self) -> int:
        """Number of patches of one image."""
        return (self.image_size // self.patch_size) ** 2


class ResNetSpec(Settings):
    """Image tower: a ResNet with the paper's changes, 32 times smaller in its last stage than the image."""

    kind: Literal["resnet"] = pydantic.Field("resnet", description="resnet here; vit takes the settings of `ViTSpec`")
    image_size: int = pydantic.Field(
        224, ge=32, le=LARGEST_IMAGE, multiple_of=32, description="side of the square input, pixels"
    )
    layers: tuple[Blocks, Blocks, Blocks, Blocks] = pydantic.Field((3, 4, 6, 3), description="blocks of the 4 stages")
    width: int = pydantic.Field(
        64, ge=2, le=LARGEST_WIDTH, multiple_of=2, description="channels of the stem; 32 times as many at the end"
    )
    heads: int = pydantic.Field(
        32, ge=1, le=LARGEST_WIDTH, description="heads of the attention that pools; divide 32 * width"
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "ResNetSpec":
        if self.channels % self.heads:
            raise ValueError(f"heads {self.heads} must divide 32 * width, {self.channels}")
        return self

    @property
    def has_patches(self) -> bool:
        """False: a ResNet has no patches to drop."""
        return False

    @property
    def position_embedding(self) -> str:
        """Key of the position embedding in the state dict of a model."""
        return "visual.attnpool.positional_embedding"

    @property
    def channels(self) -> int:
        """Channels of the last stage, which attention pools."""
        return 32 * self.width

    @property
    def positions(self) -> int:
        """Positions of the last stage, which attention pools."""
        return (self.image_size // 32) ** 2


class TextSpec(Settings):
    """Text tower: a causal transformer pooled at the end-of-text token."""

    context_length: int = pydantic.Field(
        77, ge=3, le=LONGEST_CONTEXT, description="tokens, start and end of text included"
    )
    vocabulary: int = pydantic.Field(
        VOCABULARY_SIZE, ge=1, le=MOST_TOKEN_IDS, description="rows of the token embedding"
    )
    width: int = pydantic.Field(512, ge=1, le=LARGEST_WIDTH, description="channels of the residual stream")
    layers: int = pydantic.Field(12, ge=1, le=MOST_LAYERS, description="transformer blocks")
    heads: int = pydantic.Field(8, ge=1, le=LARGEST_WIDTH, description="attention heads; divide width")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "TextSpec":
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self


def _of_its_kind(value: object) -> object:
    # Not pydantic's tagged union: it requires `kind` always, and puts it into the path of every error.
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", "vit")
    if kind not in ("vit", "resnet"):
        raise ValueError(f"kind {kind!r} must be vit or resnet")
    return (ResNetSpec if kind == "resnet" else VisionSpec).model_validate(value)


class ClipSpec(Settings):
    """A complete CLIP model: two towers and the size of their shared space."""

    embed_dim: int = pydantic.Field(512, ge=1, le=LARGEST_WIDTH, description="dimensions of the shared space")
    quick_gelu: bool = pydantic.Field(False, description="x * sigmoid(1.702 x), as OpenAI's weights need, not GELU")
    images: ImageSpec = pydantic.Field(ImageSpec(), description="preprocessing of the images")
    vision: Annotated[VisionSpec | ResNetSpec, pydantic.BeforeValidator(_of_its_kind)] = VisionSpec()
    text: TextSpec = TextSpec()

    @property
    def inputs(self) -> InputSpec:
        """Image size, context length and vocabulary."""
        return InputSpec(
            image_size=self.vision.image_size,
            context_length=self.text.context_length,
            vocabulary=self.text.vocabulary,
            images=self.images,
        )


def _paper(embed_dim: int, vision: VisionSpec | ResNetSpec, text_width: int) -> ClipSpec:
    text = TextSpec(width=text_width, heads=text_width // 64)
    return ClipSpec(embed_dim=embed_dim, quick_gelu=True, vision=vision, text=text)


def _resnet(image_size: int, layers: tuple[int, int, int, int], width: int) -> ResNetSpec:
    return ResNetSpec(image_size=image_size, layers=layers, width=width, heads=width // 2)


def _small(vision: VisionSpec, text: TextSpec, embed_dim: int) -> ClipSpec:
    return ClipSpec(embed_dim=embed_dim, vision=vision, text=text)


ZOO: dict[str, ClipSpec] = {
    "ViT-B/32": _paper(512, VisionSpec(patch_size=32), 512),
    "ViT-B/16": _paper(512, VisionSpec(patch_size=16), 512),
    "ViT-L/14": _paper(768, VisionSpec(patch_size=14, width=1024, layers=24, heads=16), 768),
    "ViT-L/14@336px": _paper(768, VisionSpec(image_size=336, patch_size=14, width=1024, layers=24, heads=16), 768),
    "RN50": _paper(1024, _resnet(224, (3, 4, 6, 3), 64), 512),
    "RN101": _paper(512, _resnet(224, (3, 4, 23, 3), 64), 512),
    "RN50x4": _paper(640, _resnet(288, (4, 6, 10, 6), 80), 640),
    "RN50x16": _paper(768, _resnet(384, (6, 8, 18, 8), 96), 768),
    "RN50x64": _paper(1024, _resnet(448, (3, 15, 36, 10), 128), 1024),
    # For minutes on two CPU cores: 64 tokens per image, captions of up to 32 tokens.
    "vit-tiny-64": _small(
        VisionSpec(image_size=64, patch_size=8, width=192, layers=6, heads=3),
        TextSpec(context_length=32, width=192, layers=4, heads=3),
        embed_dim=192,
    ),
    # A quarter of the tokens, made by convolutions: 2.3 times the samples per second of vit-tiny-64.
    "vit-nano-64": _small(
        VisionSpec(image_size=64, patch_size=16, width=192, layers=6, heads=3, stem="convolutions"),
        TextSpec(context_length=32, width=192, layers=4, heads=3),
        embed_dim=192,
    ),
    # Narrower and shallower still, for short captions and a few minutes.
    "vit-pico-64": _small(
        VisionSpec(image_size=64, patch_size=16, width=128, layers=4, heads=2, stem="convolutions"),
        TextSpec(context_length=24, width=128, layers=2, heads=2),
        embed_dim=128,
    ),
    # A first useful model for one GPU.
    "vit-small-112": _small(
        VisionSpec(image_size=112, patch_size=16, width=384, layers=12, heads=6),
        TextSpec(width=384, layers=12, heads=6),
        embed_dim=384,
    ),
}


def spec_of(name: str) -> ClipSpec:
    """Return the architecture of this name; case, slash, @ and px are ignored (`vit-b-32` is `ViT-B/32`).

    Raises:
        RecipeError: there is no such name; the message lists the known ones.
    """
    wanted = _folded(name)
    for known, spec in ZOO.items():
        if _folded(known) == wanted:
            return spec
    raise RecipeError(f"there is no model {name!r}; known models: {', '.join(ZOO)}")


def _folded(name: str) -> str:
    return name.lower().replace("/", "-").replace("@", "-").removesuffix("px")
