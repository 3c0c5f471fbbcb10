"""A training run as typed settings, read from YAML (`openwit.schemas.common.settings.load_settings`)."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.schemas.common.storage.store_path import StorePath, as_path
from openwit.training.config.data import DataSettings
from openwit.training.config.engine import DistributedSettings, EmaSettings, MemorySettings, SpeedSettings
from openwit.training.config.evaluation import EvalSettings
from openwit.training.config.init import ForkSettings
from openwit.training.config.log import CheckpointSettings, LogSettings
from openwit.training.config.model import AnyModelSettings, ModelSettings
from openwit.training.config.objective import ContrastiveSettings, ObjectiveSettings
from openwit.training.config.optim import OptimSettings
from openwit.training.config.schedule import ScheduleSettings


def _folder_or_url(raw: Any, to_path: pydantic.ValidatorFunctionWrapHandler) -> Path:
    return as_path(raw) if isinstance(raw, str | StorePath) and "://" in str(raw) else to_path(raw)


FolderOrUrl = Annotated[
    Path, pydantic.WrapValidator(_folder_or_url), pydantic.PlainSerializer(str, return_type=str, when_used="json")
]


class TrainConfig(Settings):
    """A training run. It determines the weights and is stored in each checkpoint."""

    run: FolderOrUrl = Field(
        description="folder of the run: checkpoints, metrics.jsonl, TensorBoard; or its URL (s3://BUCKET/RUN)"
    )
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="initial weights, order of samples, captions, crops, patch dropout"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="of the towers; auto: bf16 on a GPU (fp16 where it has no bf16), fp32 on a CPU; fp16 "
        "scales the loss automatically",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="CPU threads of the model; null: one per core (another number may round differently)",
    )
    fork: ForkSettings | None = Field(
        None, description="checkpoint of another run to go on from, with other settings or a longer schedule"
    )
    data: DataSettings
    model: AnyModelSettings = ModelSettings()
    objective: ObjectiveSettings = ContrastiveSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings
    memory: MemorySettings = MemorySettings()
    speed: SpeedSettings = SpeedSettings()
    distributed: DistributedSettings = DistributedSettings()
    ema: EmaSettings = EmaSettings()
    log: LogSettings = LogSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    eval: EvalSettings = EvalSettings()

    @pydantic.model_validator(mode="after")
    def _one_precision(self) -> "TrainConfig":
        if self.speed.fp8 and self.precision not in ("auto", "bf16"):
            raise ValueError(
                f"speed.fp8 computes all else in bf16: precision must be bf16 or auto, not {self.precision}"
            )
        return self
