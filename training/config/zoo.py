"""Named architectures as data: the paper's nine models (arXiv 2103.00020), larger ones, SigLIP's and small ones."""

from typing import Annotated, Literal

import pydantic

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings
from openwit.training.config.images import SIGLIP_IMAGES, ImageSpec
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


_MLP_RATIO = "hidden channels of a block's MLP, as a multiple of width"
_LAYER_SCALE = "initial value of a learned gain of each channel of what a block adds (LayerScale); null: none"


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
    mlp_ratio: float = pydantic.Field(4.0, gt=0, le=64, description=_MLP_RATIO)
    layer_scale: float | None = pydantic.Field(None, gt=0, le=1, description=_LAYER_SCALE)
    pool: Literal["class", "mean", "attention"] = pydantic.Field(
        "class",
        description="class: a class token (the paper); mean: of the patches; attention: of a learned query to the "
        "patches, and an MLP (SigLIP)",
    )
    pre_norm: bool = pydantic.Field(True, description="a normalisation before the blocks, which the paper adds")
    patch_bias: bool = pydantic.Field(False, description="the map of the patches adds a bias")
    projection: bool = pydantic.Field(True, description="a last linear map; false: width is embed_dim")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "VisionSpec":
        if self.stem == "convolutions" and (self.patch_size < 4 or self.patch_size & (self.patch_size - 1)):
            raise ValueError(f"patch_size {self.patch_size} must be a power of two, 4 or more, for stem: convolutions")
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide image_size {self.image_size}")
        if self.stem == "convolutions" and self.patch_bias:
            raise ValueError("patch_bias is of stem: patch; convolutions have one of their own: leave it out")
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

    @property
    def positions(self) -> int:
        """Rows of the position embedding: the patches and, if there is one, the class token."""
        return self.patches + (self.pool == "class")


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
    """Text tower: a transformer over tokens; by default causal and pooled at the end of text."""

    context_length: int = pydantic.Field(
        77, ge=3, le=LONGEST_CONTEXT, description="tokens, start and end of text included"
    )
    vocabulary: int = pydantic.Field(
        VOCABULARY_SIZE, ge=1, le=MOST_TOKEN_IDS, description="rows of the token embedding"
    )
    width: int = pydantic.Field(512, ge=1, le=LARGEST_WIDTH, description="channels of the residual stream")
    layers: int = pydantic.Field(12, ge=1, le=MOST_LAYERS, description="transformer blocks")
    heads: int = pydantic.Field(8, ge=1, le=LARGEST_WIDTH, description="attention heads; divide width")
    mlp_ratio: float = pydantic.Field(4.0, gt=0, le=64, description=_MLP_RATIO)
    layer_scale: float | None = pydantic.Field(None, gt=0, le=1, description=_LAYER_SCALE)
    causal: bool = pydantic.Field(True, description="a token attends to those before it; false: to all (SigLIP)")
    pool: Literal["end", "last"] = pydantic.Field(
        "end", description="end: at the end of text, the largest id; last: at the last of context_length (SigLIP)"
    )
    pad: int = pydantic.Field(
        0, ge=0, le=1 << 31, description="id with which a text is filled up to context_length where that has an effect"
    )
    projection_bias: bool = pydantic.Field(False, description="the last linear map adds a bias")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "TextSpec":
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        if self.pool == "last" and self.causal:
            raise ValueError("pool: last sees the filling after a short text: set causal: false")
        if self.pad >= self.vocabulary:
            raise ValueError(f"pad {self.pad} must be below vocabulary {self.vocabulary}")
        return self

    @property
    def fixed_length(self) -> bool:
        """Whether a text is filled up to `context_length`, as what follows its end has an effect."""
        return not self.causal


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
    gelu: Literal["exact", "tanh"] = pydantic.Field("exact", description="tanh: its approximation, as SigLIP has it")
    norm_eps: float = pydantic.Field(1e-5, gt=0, lt=1, description="added to the variance in layer normalisation")
    images: ImageSpec = pydantic.Field(ImageSpec(), description="preprocessing of the images")
    vision: Annotated[VisionSpec | ResNetSpec, pydantic.BeforeValidator(_of_its_kind)] = VisionSpec()
    text: TextSpec = TextSpec()

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "ClipSpec":
        vision = self.vision
        if isinstance(vision, VisionSpec) and not vision.projection and vision.width != self.embed_dim:
            raise ValueError(f"without a projection, vision.width {vision.width} must be embed_dim {self.embed_dim}")
        return self

    @property
    def unlike_clip(self) -> list[str]:
        """Settings in which the towers differ from CLIP's in more than size, for exports to programs without them."""
        found = {"gelu": self.gelu == "exact", "norm_eps": self.norm_eps == 1e-5}
        if isinstance(self.vision, VisionSpec):
            vision = self.vision
            found |= {"vision.pool": vision.pool == "class", "vision.pre_norm": vision.pre_norm}
            found |= {"vision.patch_bias": not vision.patch_bias, "vision.projection": vision.projection}
        text = self.text
        found |= {"text.causal": text.causal, "text.projection_bias": not text.projection_bias}
        return [name for name, usual in found.items() if not usual]

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


def _large(embed_dim: int, vision: VisionSpec, text_width: int, text_layers: int) -> ClipSpec:
    text = TextSpec(width=text_width, heads=text_width // 64, layers=text_layers)
    return ClipSpec(embed_dim=embed_dim, vision=vision, text=text)


def _siglip(width: int, layers: int, heads: int, image_size: int, context_length: int = 64) -> ClipSpec:
    patch_size, mlp_ratio = (14, 3.7362) if width == 1152 else (16, 4.0)
    sizes = {"width": width, "layers": layers, "heads": heads, "mlp_ratio": mlp_ratio}
    style = {"pool": "attention", "pre_norm": False, "patch_bias": True, "projection": False}
    vision = VisionSpec.model_validate({**sizes, **style, "image_size": image_size, "patch_size": patch_size})
    words = {"context_length": context_length, "vocabulary": 32_000, "causal": False, "pool": "last", "pad": 1}
    text = TextSpec.model_validate({**sizes, **words, "projection_bias": True})
    return ClipSpec(embed_dim=width, gelu="tanh", norm_eps=1e-6, images=SIGLIP_IMAGES, vision=vision, text=text)


def _small(vision: VisionSpec, text: TextSpec, embed_dim: int) -> ClipSpec:
    return ClipSpec(embed_dim=embed_dim, vision=vision, text=text)


_BIG_G = VisionSpec(patch_size=14, width=1664, layers=48, heads=16, mlp_ratio=4.9231)

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
    # OpenCLIP's larger ones (github.com/mlfoundations/open_clip), with GELU.
    "ViT-H/14": _large(1024, VisionSpec(patch_size=14, width=1280, layers=32, heads=16), 1024, 24),
    "ViT-g/14": _large(1024, VisionSpec(patch_size=14, width=1408, layers=40, heads=16, mlp_ratio=4.3637), 1024, 24),
    "ViT-bigG/14": _large(1280, _BIG_G, 1280, 32),
    # SigLIP (arXiv 2303.15343). Its SO400M/14 "at 384" reads 27 x 27 patches: 378 pixels.
    "ViT-B/16-SigLIP": _siglip(768, 12, 12, 224),
    "ViT-B/16-SigLIP-256": _siglip(768, 12, 12, 256),
    "ViT-B/16-SigLIP-384": _siglip(768, 12, 12, 384),
    "ViT-B/16-SigLIP-512": _siglip(768, 12, 12, 512),
    "ViT-L/16-SigLIP-256": _siglip(1024, 24, 16, 256),
    "ViT-L/16-SigLIP-384": _siglip(1024, 24, 16, 384),
    "ViT-SO400M/14-SigLIP": _siglip(1152, 27, 16, 224, 16),
    "ViT-SO400M/14-SigLIP-378": _siglip(1152, 27, 16, 378),
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
    # One block in each tower, and patches averaged: learns the most in few minutes; the convolutions do most of it.
    "vit-femto-64": _small(
        VisionSpec(image_size=64, patch_size=16, width=128, layers=1, heads=2, stem="convolutions", pool="mean"),
        TextSpec(context_length=24, width=128, layers=1, heads=2),
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
