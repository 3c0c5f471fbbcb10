"""Values that commands and functions accept as strings."""

from enum import StrEnum


class Weights(StrEnum):
    """Weights of a checkpoint to use."""

    MODEL = "model"
    EMA = "ema"


class ExportLayout(StrEnum):
    """Layout of an exported model."""

    OPEN_CLIP = "open_clip"
    HUGGING_FACE = "hf"
    ONNX = "onnx"
