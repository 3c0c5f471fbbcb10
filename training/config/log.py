"""Settings of the sections `log` and `checkpoint`: the files that a run writes."""

from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Duration, Interval


class LogSettings(Settings):
    """Logging and progress."""

    every: int = Field(10, ge=1, le=10**9, description="steps between two records in metrics.jsonl and TensorBoard")
    line_seconds: float = Field(
        10, gt=0, le=86_400, description="seconds between two lines where the output is no terminal"
    )
    tensorboard: bool = Field(True, description="write TensorBoard event files beside metrics.jsonl")
    wandb: str | None = Field(None, description="project of Weights & Biases to log to as well (package wandb)")


class CheckpointSettings(Settings):
    """Checkpoint intervals and retention."""

    every: Interval = Field(Duration(value=5, unit="minutes"), description="distance between two checkpoints")
    keep: int = Field(2, ge=1, le=10**6, description="checkpoints kept, the newest ones")
    keep_every: Interval | None = Field(
        None, description="distance between checkpoints that are made and kept for good; null: none is"
    )
    background: bool = Field(True, description="write a copy during training instead of waiting for the disk")
