"""Define the commands of probes: probe, few-shot."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console
from openwit.training.cli.options import (
    Baselines,
    BatchSize,
    Classes,
    FeaturesFolder,
    ImageColumn,
    JsonOut,
    LabelColumn,
    ModelPath,
    ProbedLayer,
    ProbeMetric,
    QuickGelu,
    SvgOut,
    TestImages,
    TestLimit,
    TestSplit,
    WeightsOption,
    say,
)
from openwit.training.config.choices import Layer, Metric, Weights
from openwit.training.config.limits import MOST_SAMPLES


def probe(
    model: ModelPath,
    data: TestImages,
    train: Annotated[Path | None, typer.Option(help="Training images [default: --data].")] = None,
    val: Annotated[Path | None, typer.Option(help="Images that choose the penalty [default: --train].")] = None,
    split: TestSplit = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split of the training images [default: train, if --train is not given].")
    ] = None,
    val_split: Annotated[
        str | None, typer.Option(help="Split that chooses the penalty [default: a fifth of the training images].")
    ] = None,
    classes: Classes = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    metric: ProbeMetric = Metric.ACCURACY,
    layer: ProbedLayer = Layer.PENULTIMATE,
    baselines: Baselines = False,
    train_limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Train on a random sample of N images.")
    ] = None,
    limit: TestLimit = None,
    features: FeaturesFolder = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SAMPLES, help="Of images held out and random weights.")] = 0,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: JsonOut = None,
    head: Annotated[Path | None, typer.Option(help="File for the fitted weights (.npz).")] = None,
) -> None:
    """Probe the image features linearly, as the paper's appendix A.3 does, with the penalty swept over 96 steps.

    For several processes use torchrun --nproc-per-node N -m openwit.training probe …; they share the features.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.probe import ProbeSettings, run_probe
    from openwit.training.evaluation.classification_readers import LabelledData
    from openwit.training.evaluation.probe.sets import open_sets

    columns = {"classes": classes, "image_column": image_column, "label_column": label_column}
    training = train or data
    validating = None
    if val is not None or val_split is not None:
        validating = LabelledData(val or training, split=val_split, **columns)  # type: ignore[arg-type]
    sets = open_sets(
        LabelledData(training, split=train_split or ("train" if train is None else None), **columns),  # type: ignore[arg-type]
        LabelledData(data, split=split, **columns),  # type: ignore[arg-type]
        validating,
        train_limit=train_limit,
        limit=limit,
    )
    run_probe(
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=say),
        sets,
        ProbeSettings(layer, metric, seed, batch_size, baselines, features, (train_limit, limit)),
        console=make_console(),
        out=out,
        head=head,
    )


def few_shot(
    model: ModelPath,
    data: TestImages,
    train: Annotated[Path | None, typer.Option(help="Images to draw from [default: --data].")] = None,
    split: TestSplit = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split to draw from [default: train, if --train is not given].")
    ] = None,
    classes: Classes = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    shots: Annotated[str, typer.Option(help="Images per class.", metavar="K,K,...")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of each number.")] = 3,
    prompts: Annotated[str, typer.Option(help="Templates of the zero-shot line, as for zero-shot.")] = "paper",
    metric: ProbeMetric = Metric.ACCURACY,
    layer: ProbedLayer = Layer.PENULTIMATE,
    baselines: Baselines = False,
    train_limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Draw from a random sample of N images.")
    ] = None,
    limit: TestLimit = None,
    features: FeaturesFolder = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: JsonOut = None,
    plot: SvgOut = None,
) -> None:
    """Probe with 1, 2, 4, 8 and 16 images per class, several draws of each, beside zero-shot classification."""
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.few_shot import run_few_shot, shots_of
    from openwit.training.cli.probe import ProbeSettings
    from openwit.training.evaluation.classification_readers import LabelledData
    from openwit.training.evaluation.probe.sets import open_sets
    from openwit.training.evaluation.prompts import read_prompts

    columns = {"classes": classes, "image_column": image_column, "label_column": label_column}
    counts, templates = shots_of(shots), read_prompts(prompts)
    sets = open_sets(
        LabelledData(train or data, split=train_split or ("train" if train is None else None), **columns),  # type: ignore[arg-type]
        LabelledData(data, split=split, **columns),  # type: ignore[arg-type]
        train_limit=train_limit,
        limit=limit,
    )
    run_few_shot(
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=say),
        sets,
        ProbeSettings(layer, metric, 0, batch_size, baselines, features, (train_limit, limit)),
        shots=counts,
        seeds=seeds,
        templates=templates,
        console=make_console(),
        out=out,
        plot=plot,
    )
