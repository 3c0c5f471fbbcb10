"""Settings of the stage embed."""

from typing import Any, Literal

from pydantic import Field, model_validator

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings


class EmbedSettings(Settings):
    """Which functions embed a dataset, and how their vectors are stored."""

    images: PluginSettings | None = Field(
        None,
        description="function by dotted name, with its settings: encoded images in, an array of vectors out; "
        "openwit.training.embedding.Images embeds with a model of the trainer",
    )
    texts: PluginSettings | None = Field(
        None,
        description="function by dotted name, with its settings: captions in, an array of vectors out; "
        "openwit.training.embedding.Texts embeds with a model of the trainer",
    )
    dataset: str | None = Field(
        None, description="folder or URL of the dataset to embed, in place of the one that an earlier step wrote"
    )
    batch: int = Field(64, ge=1, le=1 << 20, description="images or texts that a function is given at once")
    dtype: Literal["float16", "float32"] = Field("float16", description="numbers of the stored vectors")
    limit: int | None = Field(
        None, ge=1, le=10**12, description="embed only the first samples of each shard, to try a function; null: all"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_at_least(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("images") is None and values.get("texts") is None:
            raise ValueError("images and texts are both missing: name a function that embeds one of them")
        return values
