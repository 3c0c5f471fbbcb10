"""The `model` section: a built-in architecture by name or spec, or your own model by dotted name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings
from openwit.training.config.images import ImageSettings, ImageSpec
from openwit.training.config.init import InitSettings
from openwit.training.config.limits import LARGEST_IMAGE, LONGEST_CONTEXT, MOST_TOKEN_IDS
from openwit.training.config.lock import LockSettings
from openwit.training.config.plugins import is_dotted
from openwit.training.config.zoo import ClipSpec, InputSpec, spec_of
from openwit.training.tokenizer.vocabulary import TOKENIZER_SUFFIXES, Cleaning

DEFAULT_MODEL = "vit-tiny-64"


_TOKENIZER = (
    "merges file of `wit-train tokenizer`; tokenizer.json of Hugging Face; or sentencepiece .model (needs "
    "openwit[sentencepiece]); null: CLIP's vocabulary of 49,408"
)
_CLEAN = (
    "what is done to a text before a tokenizer.json or .model: canonicalize: SigLIP's, lower case and no punctuation; "
    "lower: case only; whitespace: neither; null: canonicalize; lower for SigLIP 2, if the tokenizer_config.json "
    "beside it says so"
)


def _with_vocabulary(raw: Any) -> Any:
    """Fill in `vocabulary` from the tokenizer's file, so that stored settings do not depend on the file."""
    if not isinstance(raw, Mapping):
        return raw
    path = raw.get("tokenizer")
    file = isinstance(path, str | Path) and Path(path).suffix in TOKENIZER_SUFFIXES
    if raw.get("clean") is not None and not file:
        raise ValueError("clean is for a tokenizer.json or a .model, not for CLIP's kind: leave it out")
    if raw.get("vocabulary") is not None or not isinstance(path, str | Path):
        return raw
    if file and raw.get("init") and not raw.get("name") and not raw.get("spec"):
        return raw  # the rows of the weights, which may be more than the tokenizer's ids
    from openwit.training.tokenizer.read import vocabulary_of  # loads numpy, which most configurations do not need

    return {**raw, "vocabulary": vocabulary_of(Path(path))}


class ModelSettings(Settings):
    """A built-in architecture: a name of `openwit.training.config.zoo`, or its sizes as `spec`."""

    name: str | None = Field(None, description=f"a model of the zoo; {DEFAULT_MODEL} if no spec is given either")
    spec: ClipSpec | None = Field(None, description="the sizes of the architecture, instead of a name")
    quick_gelu: bool | None = Field(
        None, description="true: QuickGELU, with which OpenAI trained; false: GELU; null: as the model has it"
    )
    images: ImageSettings = Field(
        ImageSettings(), description="preprocessing of the images, where it is not to be the architecture's"
    )
    patch_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of image patches dropped in each training step (FLIP, arXiv 2212.00794)"
    )
    tokenizer: Path | None = Field(None, description=_TOKENIZER)
    clean: Cleaning | None = Field(None, description=_CLEAN)
    vocabulary: int | None = Field(
        None,
        ge=1,
        le=MOST_TOKEN_IDS,
        description="rows of the token embedding; null: the tokenizer's (filled in if one is given)",
    )
    init: InitSettings | None = Field(None, description="weights to begin from; null: random ones")
    lock: LockSettings | None = Field(None, description="parts that keep their weights; null: none")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_vocabulary(cls, raw: Any) -> Any:
        return _with_vocabulary(raw)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if self.name is not None and self.spec is not None:
            raise ValueError("give name or spec, not both")
        if self.init is not None and self.name is not None and (self.init.image_size or self.init.context_length):
            raise ValueError("init.image_size and init.context_length change the weights' architecture: give no name")
        if self.is_open:
            return self
        if not self.resolved().vision.has_patches and self.patch_dropout:
            raise ValueError("patch_dropout drops patches, which a ResNet does not have: set it to 0")
        return self

    @property
    def is_open(self) -> bool:
        """Whether the architecture is that of weights that have not been read yet."""
        return self.init is not None and self.name is None and self.spec is None

    @property
    def label(self) -> str:
        """Name of the architecture, for messages."""
        return self.name or ("the spec it was trained with" if self.spec is not None else DEFAULT_MODEL)

    @property
    def inputs(self) -> InputSpec:
        """Image size, context length and vocabulary of the architecture."""
        return self.resolved().inputs

    def resolved(self) -> ClipSpec:
        """Return the sizes of the architecture, with `vocabulary`, `images` and `quick_gelu` applied.

        Raises:
            RecipeError: it is that of weights which have not been read.
        """
        if self.is_open:
            raise RecipeError("the architecture is that of model.init, which has not been read: give model.spec")
        spec = self.spec
        if spec is None:
            spec = spec_of(self.name if self.name is not None else DEFAULT_MODEL)
        if self.vocabulary is not None:
            spec = spec.model_copy(update={"text": spec.text.model_copy(update={"vocabulary": self.vocabulary})})
        spec = spec.model_copy(update={"images": self.images.over(spec.images)})
        return spec if self.quick_gelu is None else spec.model_copy(update={"quick_gelu": self.quick_gelu})


class CustomModelSettings(PluginSettings):
    """Your own model by dotted name: a callable that returns an nn.Module with `encode_image` and `encode_text`.

    Keys other than the ones below are passed to the callable as keyword arguments. `image_size`, `context_length` and
    `vocabulary` are passed too if it has parameters of these names.
    """

    image_size: int = Field(
        224, ge=1, le=LARGEST_IMAGE, description="side of the square images that the model takes, pixels"
    )
    images: ImageSpec = Field(ImageSpec(), description="preprocessing of the images")
    context_length: int = Field(
        77, ge=3, le=LONGEST_CONTEXT, description="tokens of the longest text, start and end of text included"
    )
    tokenizer: Path | None = Field(None, description=_TOKENIZER)
    clean: Cleaning | None = Field(None, description=_CLEAN)
    vocabulary: int | None = Field(
        None,
        ge=1,
        le=MOST_TOKEN_IDS,
        description="number of token ids; null: the tokenizer's (filled in if one is given)",
    )
    init: InitSettings | None = Field(None, description="weights to begin from; null: random ones")
    lock: LockSettings | None = Field(None, description="parts that keep their weights; null: none")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_vocabulary(cls, raw: Any) -> Any:
        return _with_vocabulary(raw)

    @property
    def label(self) -> str:
        """Dotted name, for messages."""
        return self.name

    @property
    def inputs(self) -> InputSpec:
        """Image size, context length and vocabulary of the model."""
        found = InputSpec(image_size=self.image_size, context_length=self.context_length, images=self.images)
        return found if self.vocabulary is None else found.model_copy(update={"vocabulary": self.vocabulary})


def _by_name(value: object) -> object:
    """Choose the settings class by `name`."""
    if not isinstance(value, Mapping):
        return value
    return (CustomModelSettings if is_dotted(value.get("name")) else ModelSettings).model_validate(value)


AnyModelSettings = Annotated[ModelSettings | CustomModelSettings, pydantic.BeforeValidator(_by_name)]
