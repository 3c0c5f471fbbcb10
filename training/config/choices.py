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


class Embedded(StrEnum):
    """What `wit-train embed` embeds."""

    BOTH = "both"
    IMAGES = "images"
    TEXTS = "texts"


class Searched(StrEnum):
    """Which embeddings are indexed or searched."""

    IMAGES = "images"
    TEXTS = "texts"


class Floats(StrEnum):
    """Numbers of stored embeddings."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Layer(StrEnum):
    """Layer of an image tower whose output is used."""

    PENULTIMATE = "penultimate"
    PROJECTED = "projected"
