"""Typed settings of a training run, one module per section. Importing this package loads pydantic and no torch."""

from openwit.training.config.data import DatasetShare, DataSettings
from openwit.training.config.duration import Duration
from openwit.training.config.engine import DistributedSettings, EmaSettings, MemorySettings, SpeedSettings
from openwit.training.config.evaluation import (
    CustomEvaluatorSettings,
    EvalSettings,
    EvaluatorSettings,
)
from openwit.training.config.init import ForkSettings, InitSettings
from openwit.training.config.log import CheckpointSettings, LogSettings
from openwit.training.config.measurements import RetrievalSettings, ZeroShotSettings
from openwit.training.config.model import AnyModelSettings, CustomModelSettings, ModelSettings
from openwit.training.config.objective import (
    BagOfWordsSettings,
    CaptioningSettings,
    ContrastiveCaptioningSettings,
    ContrastiveSettings,
    ObjectiveSettings,
    SigmoidSettings,
    objective_settings,
)
from openwit.training.config.optim import OptimSettings
from openwit.training.config.schedule import ScheduleSettings
from openwit.training.config.train import TrainConfig

__all__ = [
    "AnyModelSettings",
    "BagOfWordsSettings",
    "CaptioningSettings",
    "CheckpointSettings",
    "ContrastiveCaptioningSettings",
    "ContrastiveSettings",
    "CustomEvaluatorSettings",
    "CustomModelSettings",
    "DataSettings",
    "DatasetShare",
    "DistributedSettings",
    "Duration",
    "EmaSettings",
    "EvalSettings",
    "EvaluatorSettings",
    "ForkSettings",
    "InitSettings",
    "LogSettings",
    "MemorySettings",
    "ModelSettings",
    "ObjectiveSettings",
    "OptimSettings",
    "RetrievalSettings",
    "ScheduleSettings",
    "SigmoidSettings",
    "SpeedSettings",
    "TrainConfig",
    "ZeroShotSettings",
    "objective_settings",
]
