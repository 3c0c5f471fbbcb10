"""Options that several commands of `wit-train` share."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import path_or_url
from openwit.training.config.choices import Weights
from openwit.training.config.limits import LARGEST_BATCH


def example(command: str) -> str:
    """Return the end of a command's help: an example that is not re-wrapped."""
    return f"\b\nExample:\n  {command}"


ModelPath = Annotated[
    Path,
    typer.Argument(
        help="Run folder or its URL (its newest checkpoint), checkpoint file, or weights of OpenAI's or open_clip's.",
        parser=path_or_url,
        metavar="MODEL",
    ),
]
WeightsOption = Annotated[Weights, typer.Option(help="Trained weights, or their moving average if the run kept one.")]
QuickGelu = Annotated[
    bool | None,
    typer.Option("--quick-gelu/--gelu", help="Activation of weights of other programs, whose files do not state it."),
]
BatchSize = Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Images or texts embedded at once.")]
