"""Define the commands that compare sets or models: robustness, overlap, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console, path_or_url
from openwit.training.cli.options import (
    BatchSize,
    Classes,
    FeaturesFolder,
    ImageColumn,
    JsonOut,
    LabelColumn,
    QuickGelu,
    SvgOut,
    WeightsOption,
    file_to_write,
)
from openwit.training.config.choices import Weights
from openwit.training.config.limits import MOST_SAMPLES


def robustness(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, checkpoints, or weights; all are compared with the line.", metavar="MODEL..."
        ),
    ],
    base: Annotated[Path, typer.Option(help="Test images of the base set, as for zero-shot.")],
    shifted: Annotated[
        Path, typer.Option(help="Test images of the shifted set, of the same classes or some of them.")
    ],
    base_split: Annotated[str | None, typer.Option(help="Split of --base [default: the held-out one].")] = None,
    shifted_split: Annotated[str | None, typer.Option(help="Split of --shifted [default: the held-out one].")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Training images of the base set: also with a probed head.")
    ] = None,
    train_split: Annotated[str | None, typer.Option(help="Split of --train.")] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="JSON of shifted classes and their base classes, where names or ids do not match."),
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="Names of the base set's numbered classes.")] = None,
    shifted_classes: Annotated[Path | None, typer.Option(help="Names of the shifted set's numbered classes.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Models that the line is fitted to: earlier JSON, a suite's folder, or one of MODEL. Repeatable."
        ),
    ] = None,
    prompts: Annotated[str, typer.Option(help="Templates, as for zero-shot.")] = "paper",
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Use a random sample of N images of each set.")
    ] = None,
    features: FeaturesFolder = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: JsonOut = None,
    plot: SvgOut = None,
) -> None:
    """Measure accuracy under a shift of the data: effective and relative robustness from the logit-scaled line.

    The line is fitted to the models of --baseline; the models that are given here are compared with it.
    """
    from openwit.training.cli.robustness import RobustnessOptions, robustness_command
    from openwit.training.config.evaluation_data import DatasetSettings

    of_base = DatasetSettings(
        name="base", data=base, split=base_split, train=train, train_split=train_split, classes=classes
    )
    of_shifted = DatasetSettings(
        name="shifted", data=shifted, split=shifted_split, classes=shifted_classes, base=of_base, mapping=mapping
    )
    options = RobustnessOptions(
        data=of_shifted,
        probed=train is not None,
        baselines=tuple(baseline or ()),
        prompts=prompts,
        limit=limit,
        features=features,
        batch_size=batch_size,
        weights=weights,
        quick_gelu=quick_gelu,
        out=out,
        plot=plot,
    )
    robustness_command(models, options, console=make_console())


def overlap(
    data: Annotated[
        list[Path],
        typer.Option(help="Evaluation set, as for zero-shot. Repeatable, each with its --report."),
    ],
    report: Annotated[
        list[Path],
        typer.Option(help="Report of `wit decontaminate … --against` this set. Repeatable, in the order of --data."),
    ],
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, checkpoints, or weights of other programs.", metavar="[MODEL]..."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of key and correct (1 or 0) per image, of a probe or another program, one for each --data."
        ),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Templates, as for zero-shot [default: those beside the data, else paper].")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data [default: the held-out one].")] = None,
    classes: Classes = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Judge a random sample of N images.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=0, max=10_000, help="Most pairs that the page shows per set.")] = 60,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, file_to_write("JSON to write, with every image that was left out.")] = None,
    page: Annotated[Path | None, file_to_write("HTML page to write, with the pairs found.")] = None,
    plot: Annotated[Path | None, file_to_write("SVG to write: what overlap adds, against its share.")] = None,
) -> None:
    """Compare accuracy on evaluation images that are in the training data (overlap) and those that are not (clean).

    As in section 5 of the paper: one-tailed binomial test, 99.5 % Clopper-Pearson interval, Bonferroni over the sets.
    """
    from openwit.training.cli.overlap import OverlapOptions, overlap_command

    options = OverlapOptions(
        data=data,
        report=report,
        results=tuple(results or ()),
        prompts=prompts,
        split=split,
        classes=classes,
        image_column=image_column,
        label_column=label_column,
        limit=limit,
        pairs=pairs,
        batch_size=batch_size,
        weights=weights,
        quick_gelu=quick_gelu,
        out=out,
        page=page,
        plot=plot,
    )
    overlap_command(models or [], options, console=make_console())


def evaluate(
    suite: Annotated[Path, typer.Option(help="Datasets, measurements, models (YAML); `wit init suite` copies one.")],
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders, checkpoints, or weights, besides the suite's.", parser=path_or_url, metavar="MODEL..."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results, kept from call to call.")] = Path("out/suite"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the suite: a.b=value. Repeatable.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Measure models on datasets: what is missing is computed, what is done is kept, and a page compares the models.

    What fails is listed with its reason, and ends nothing else; the exit code is then 1. For several processes use
    torchrun --nproc-per-node N -m openwit.training evaluate ..., or start the command again in the same folder.
    """
    from openwit.training.cli.evaluate import run_evaluate

    code = run_evaluate(models or [], suite, overrides or [], out=out, console=make_console())
    if code:
        raise typer.Exit(code)
