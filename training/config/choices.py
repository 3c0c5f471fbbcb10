"""Values that commands and functions accept as strings."""

from enum import StrEnum
from typing import Literal

Cleaning = Literal["canonicalize", "lower", "whitespace"]
"""What is done to a text before a tokenizer of another program; names as in open_clip."""


class Weights(StrEnum):
    """Weights of a checkpoint to use."""

    MODEL = "model"
    EMA = "ema"


class ExportLayout(StrEnum):
    """Layout of an exported model."""

    OPEN_CLIP = "open_clip"
    HUGGING_FACE = "hf"
    ONNX = "onnx"
