"""The sections `memory`, `speed`, `distributed` and `ema`: how a step is computed, not what is learned."""

from typing import Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.duration import Duration
from openwit.training.config.limits import LARGEST_BATCH, LONGEST_WAIT_MINUTES


class MemorySettings(Settings):
    """Recomputation to save memory; gradients are unchanged."""

    chunk: int | None = Field(
        None,
        ge=1,
        le=LARGEST_BATCH,
        description="samples of a process embedded with activations at once (GradCache): memory is that of a chunk, "
        "for one more forward pass; null: the whole batch. Under batch normalisation a chunk is normalised by itself",
    )
    checkpoint_activations: bool = Field(
        False, description="keep each block's input only, and compute the block again on the way back"
    )


class SpeedSettings(Settings):
    """Speed of the arithmetic; may round differently, otherwise no effect."""

    compile: bool = Field(False, description="torch.compile the towers; texts are padded to multiples of 16 tokens")
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = Field(
        "default", description="mode of torch.compile"
    )
    skip_unused: bool = Field(
        False,
        description="compute in a transformer's last block only the position that is pooled, and on a CPU texts in "
        "groups of like length",
    )
    tf32: bool = Field(False, description="float32 products in TensorFloat-32 on a GPU: faster, 10 bits of mantissa")
    channels_last: bool | None = Field(
        None, description="memory layout of ResNets and patch convolutions; null: on a GPU only"
    )
    fp8: bool = Field(
        False,
        description="linear layers of blocks in 8 bits, with bf16 for all else: for large models on a GPU of compute "
        "capability 8.9 or higher",
    )


class DistributedSettings(Settings):
    """Several processes (torchrun, srun); one needs nothing of this."""

    strategy: Literal["replicate", "fsdp"] = Field(
        "replicate", description="replicate: a copy of the model in each process; fsdp: its weights in shards (FSDP2)"
    )
    timeout: Duration = Field(
        Duration(value=30, unit="minutes"), description="how long a process waits for the others before it gives up"
    )

    @pydantic.model_validator(mode="after")
    def _clock(self) -> "DistributedSettings":
        if self.timeout.unit != "minutes" or self.timeout.value <= 0:
            raise ValueError(f"timeout {self.timeout} must be a time: give s, min or h")
        if self.timeout.value > LONGEST_WAIT_MINUTES:
            raise ValueError(f"timeout {self.timeout} is more than 30 days")
        return self


class EmaSettings(Settings):
    """An exponential moving average of the weights, kept in checkpoints."""

    decay: float | None = Field(None, gt=0, lt=1, description="kept of the average in a step, e.g. 0.9999; null: none")
    evaluate: bool = Field(False, description="evaluate the average instead of the weights")

    @pydantic.model_validator(mode="after")
    def _there(self) -> "EmaSettings":
        if self.evaluate and self.decay is None:
            raise ValueError("evaluate needs an average: set ema.decay")
        return self
