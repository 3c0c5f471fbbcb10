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


class Metric(StrEnum):
    """Metrics of classification: the paper's (table 9), and CLIP_benchmark's mean average precision."""

    ACCURACY = "accuracy"
    MEAN_PER_CLASS = "mean_per_class"
    MEAN_TOP1_TOP5 = "mean_top1_top5"
    ROC_AUC = "roc_auc"
    MAP_11 = "map_11_point"
    MAP = "map"

    @property
    def of_scores(self) -> bool:
        """Whether it needs the scores of all classes, not only the rank of the right one."""
        return self in (Metric.ROC_AUC, Metric.MAP_11, Metric.MAP)
