"""Define the commands of zero-shot classification: zero-shot, and the known datasets."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console
from openwit.training.cli.options import (
    BatchSize,
    ImageColumn,
    KnownName,
    KnownRoot,
    LabelColumn,
    ModelPath,
    QuickGelu,
    Split,
    WeightsOption,
    file_to_write,
)
from openwit.training.config.choices import Metric, Weights
from openwit.training.config.limits import MOST_SAMPLES


def zero_shot(
    model: ModelPath,
    data: Annotated[
        Path | None,
        typer.Option(help="Parquet file of images and labels, folder with one folder per class, or tars with .cls."),
    ] = None,
    dataset: KnownName = None,
    root: KnownRoot = Path("."),
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            help="Templates: paper, cifar10, name, a domain such as food or satellite, or a file with one template "
            "per line ({label}) or a list per dataset (FILE#NAME). Repeatable: more sets are shown beside the first "
            "[default: those beside the data, else the dataset's domain, else paper]."
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(help="Main metric [default: the dataset's; accuracy, or map_11_point for several labels]."),
    ] = None,
    split: Split = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of numbered classes, one per line from class 0, or a list per dataset (FILE#NAME)."),
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Classify a random sample of N images.")
    ] = None,
    batch_size: BatchSize = 256,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Classify even images that the model was trained on.")
    ] = False,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, file_to_write("JSON to write, with every class and confusion.")] = None,
) -> None:
    """Classify images by the names of their classes: top-1, top-5 and mean per-class accuracy with 95% intervals.

    An ensemble of templates is shown beside the paper's single one.
    """
    from openwit.training.cli.zero_shot import ZeroShotOptions, zero_shot_command

    zero_shot_command(
        model,
        ZeroShotOptions(
            data=data,
            dataset=dataset,
            root=root,
            prompts=tuple(prompts or ()),
            metric=metric,
            split=split,
            classes=classes,
            image_column=image_column,
            label_column=label_column,
            limit=limit,
            batch_size=batch_size,
            allow_train=allow_train,
            weights=weights,
            quick_gelu=quick_gelu,
            out=out,
        ),
        console=make_console(),
    )


def datasets(
    root: Annotated[Path, typer.Argument(help="Folder that holds evaluation datasets.", metavar="ROOT")],
    out: Annotated[Path | None, file_to_write("JSON to write, with published sizes and their sources.")] = None,
) -> None:
    """List the paper's and CLIP_benchmark's datasets that a folder holds, with counts against published ones.

    Layouts: CLIP_benchmark's WebDataset export (wds_NAME), torchvision's folders, NAME.parquet, and one folder per
    class. Nothing is downloaded.
    """
    from openwit.training.cli.datasets import show_datasets

    show_datasets(root, console=make_console(), out=out)
