"""Where the weights of a run begin: `model.init` (weights of any program) and `fork` (another run's checkpoint)."""

from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Weights
from openwit.training.config.limits import LARGEST_IMAGE, LONGEST_CONTEXT

Parts = Literal["both", "image", "text"]


class InitSettings(Settings):
    """Weights to begin from, in YAML a path or a mapping: OpenAI's, open_clip's, transformers' or ours.

    Without `model.name` and `model.spec` the architecture is that of the weights.
    """

    weights: Path = Field(
        description="OpenAI's archive; open_clip's .pt, .bin, .safetensors or folder; a folder of transformers' CLIP "
        "or SigLIP; a run folder, checkpoint or export of ours"
    )
    use: Weights = Field(Weights.MODEL, description="of a checkpoint of ours: the weights, or their moving average")
    parts: Parts = Field("both", description="both towers, or only one: the rest keeps its initial values")
    resize: bool = Field(
        False,
        description="fit position embeddings to another size: an image's are interpolated (bicubic), a text's are cut "
        "if the context is shorter, and interpolated (linear) if it is longer; false: another size is an error",
    )
    image_size: int | None = Field(
        None,
        ge=1,
        le=LARGEST_IMAGE,
        description="image size to train at, if the architecture comes from the weights; needs resize",
    )
    context_length: int | None = Field(
        None,
        ge=3,
        le=LONGEST_CONTEXT,
        description="context to train with, if the architecture comes from the weights; needs resize",
    )
    sha256: str | None = Field(None, description="checksum of the weights; filled in when the run begins")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_path(cls, raw: Any) -> Any:
        return {"weights": raw} if isinstance(raw, str | Path) else raw

    @pydantic.model_validator(mode="after")
    def _sizes(self) -> "InitSettings":
        if (self.image_size or self.context_length) and not self.resize:
            raise ValueError("image_size and context_length fit position embeddings to another size: set resize: true")
        return self


class ForkSettings(Settings):
    """A checkpoint to go on from with other settings, in YAML a path or a mapping; `run` must be another folder.

    Weights, moving average and optimiser state come from it. Only the architecture must be the same; a longer
    `schedule.duration` continues a finished run.
    """

    checkpoint: Path = Field(description="run folder (its newest checkpoint) or checkpoint file")
    position: Literal["keep", "restart"] = Field(
        "keep",
        description="keep: steps, samples and the clock go on, and so does the order of the data if it is the same; "
        "restart: all begin at zero",
    )
    optimizer: bool = Field(True, description="take over the optimiser's state; false: it begins anew")
    sha256: str | None = Field(None, description="checksum of the checkpoint; filled in when the run begins")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_path(cls, raw: Any) -> Any:
        return {"checkpoint": raw} if isinstance(raw, str | Path) else raw
