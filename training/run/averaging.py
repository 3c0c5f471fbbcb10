"""`wit-train average`: the mean of several checkpoints' weights, as a checkpoint.

Along one run this is checkpoint averaging (Vaswani et al., arXiv 1706.03762, section 6.1); over several runs from one
beginning, a model soup (Wortsman et al., arXiv 2203.05482).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.files import load_checkpoint, write_checkpoint
from openwit.training.export.source import averaged, weights_of


@dataclass(frozen=True)
class AverageJob:
    """What the command line asks for (see `openwit.training.cli.main.average`)."""

    checkpoints: list[Path]
    out: Path
    weights: str

    def run(self, console: Console) -> None:
        """Reads, averages, writes. The last checkpoint's description goes with the mean, and the names of all.

        Raises:
            OpenWITError: a checkpoint is missing or broken, they do not fit one another, or `out` exists.
        """
        which = self._which()
        if self.out.suffix != ".pt":
            raise OpenWITError(f"{self.out} must end in .pt, as checkpoints do")
        if self.out.exists():
            raise OpenWITError(f"{self.out} exists: choose another --out")
        found = [load_checkpoint(path) for path in self.checkpoints]
        state = {
            **{name: value for name, value in found[-1].state.items() if name == "tokenizer"},
            "model": averaged([weights_of(checkpoint, which) for checkpoint in found]),
        }
        names = [str(path) for path in self.checkpoints]
        write_checkpoint(self.out, found[-1].info.model_copy(update={"averaged": names, "milestone": False}), state)
        console.print(f"wrote {self.out}, the mean of {len(found)} checkpoints", markup=False, soft_wrap=True)

    def _which(self) -> Literal["model", "ema"]:
        if self.weights == "model":
            return "model"
        if self.weights == "ema":
            return "ema"
        raise OpenWITError(f"--weights {self.weights!r} must be model or ema")
