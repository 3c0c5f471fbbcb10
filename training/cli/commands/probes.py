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
    KnownName,
    KnownRoot,
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
    file_to_write,
    say,
)
from openwit.training.config.choices import Layer, Weights
from openwit.training.config.limits import MOST_SAMPLES


def probe(
    model: ModelPath,
    data: TestImages = None,
    dataset: KnownName = None,
    root: KnownRoot = Path("."),
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
    metric: ProbeMetric = None,
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
    head: Annotated[Path | None, file_to_write("File for the fitted weights (.npz).")] = None,
) -> None:
    """Probe the image features linearly, as the paper's appendix A.3 does, with the penalty swept over 96 steps.

    For several processes use torchrun --nproc-per-node N -m openwit.training probe …; they share the features.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.labelled import dataset_settings
    from openwit.training.cli.probe import ProbeSettings, run_probe
    from openwit.training.config.measurements import ProbeMeasurement
    from openwit.training.evaluation.measurements.opening import probe_metric
    from openwit.training.evaluation.measurements.registry import code_of

    settings = dataset_settings(
        data,
        dataset,
        root,
        train=train,
        val=val,
        split=split,
        train_split=train_split,
        val_split=val_split,
        classes=classes,
        image_column=image_column,
        label_column=label_column,
    )
    how = ProbeMeasurement(metric=metric, layer=layer, seed=seed, train_limit=train_limit, limit=limit)
    sets = code_of("probe").open_data(settings, how, say)
    chosen = probe_metric(settings, metric, sets)
    run_probe(
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=say),
        sets,
        ProbeSettings(layer, chosen, seed, batch_size, baselines, features, (train_limit, limit)),
        console=make_console(),
        out=out,
        head=head,
    )


def few_shot(
    model: ModelPath,
    data: TestImages = None,
    dataset: KnownName = None,
    root: KnownRoot = Path("."),
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
    metric: ProbeMetric = None,
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
    from openwit.training.cli.labelled import dataset_settings
    from openwit.training.cli.probe import ProbeSettings
    from openwit.training.config.measurements import FewShotMeasurement
    from openwit.training.evaluation.measurements.opening import probe_metric, prompts_of
    from openwit.training.evaluation.measurements.registry import code_of

    settings = dataset_settings(
        data,
        dataset,
        root,
        train=train,
        split=split,
        train_split=train_split,
        classes=classes,
        image_column=image_column,
        label_column=label_column,
    )
    counts = shots_of(shots)
    how = FewShotMeasurement(
        metric=metric, layer=layer, shots=list(counts), seeds=seeds, train_limit=train_limit, limit=limit
    )
    templates = prompts_of(settings, [prompts])[0].templates
    sets = code_of("few_shot").open_data(settings, how, say)
    chosen = probe_metric(settings, metric, sets)
    run_few_shot(
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=say),
        sets,
        ProbeSettings(layer, chosen, 0, batch_size, baselines, features, (train_limit, limit)),
        shots=counts,
        seeds=seeds,
        templates=templates,
        console=make_console(),
        out=out,
        plot=plot,
    )
