"""Define the commands that write weights: export, average."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.training.cli.options import ModelPath, QuickGelu, WeightsOption, say
from openwit.training.config.choices import ExportLayout, Weights
from openwit.training.config.limits import MOST_CHECKPOINTS


def export(
    model: ModelPath,
    layout: Annotated[ExportLayout, typer.Option("--format", help="Program that the model is written for.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    weights: WeightsOption = Weights.MODEL,
    average: Annotated[
        int, typer.Option(min=1, max=MOST_CHECKPOINTS, help="Average the weights of the run's last N checkpoints.")
    ] = 1,
    quick_gelu: QuickGelu = None,
) -> None:
    """Write a model for open_clip, for Hugging Face's transformers, or as ONNX graphs.

    The folder also gets lineage.json: dataset, step, samples and configuration. It is complete or absent.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.export.export import export_model

    loaded = load_model(model, weights=weights, average=average, quick_gelu=quick_gelu, report=say)
    for note in export_model(loaded, out, layout=layout):
        say(note)
    say(f"wrote {out}")


def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint files of one architecture; for .safetensors weights of any layout."),
    ],
    out: Annotated[Path, typer.Option(help="File to write (.pt or .safetensors); must not exist yet.")],
    weights: WeightsOption = Weights.MODEL,
    shares: Annotated[
        str | None, typer.Option(help="Share of each, such as 0.3,0.7 [default: equal ones].", metavar="A,B,...")
    ] = None,
) -> None:
    """Average the weights of checkpoints into one that can be evaluated and exported."""
    from openwit.training.run.averaging import average_checkpoints, parse_shares

    average_checkpoints(checkpoints, out, weights=weights, shares=parse_shares(shares))
    say(f"wrote {out}, the mean of {len(checkpoints)} checkpoints")
