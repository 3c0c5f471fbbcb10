"""Command line `wit-train`. Heavy imports are delayed until a command runs, so that `--help` is fast."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from openwit.schemas.common.command import (
    Version,
    ending_when_stopped,
    make_console,
    path_or_url,
    run_app,
    user_errors,
)
from openwit.schemas.common.errors import OpenWITError
from openwit.training.cli.options import BatchSize, ModelPath, QuickGelu, WeightsOption, example
from openwit.training.config.choices import Embedded, ExportLayout, Floats, Layer, Metric, Searched, Weights
from openwit.training.config.limits import MOST_CHECKPOINTS, MOST_PROCESSES, MOST_SAMPLES, MOST_TOKEN_IDS

app = typer.Typer(
    name="wit-train",
    help="Train CLIP on a WebImageText dataset, evaluate and export it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    pass


@app.command(epilog=example("wit-train fit demo/train.yaml --set optim.lr=1e-3 --set run=out/other"))
def fit(
    config: Annotated[Path, typer.Argument(help="Training configuration (YAML).", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key: a.b=value. Repeatable.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Train a model. Run the same command again to resume after an interruption.

    For several processes use srun, or torchrun --nproc-per-node N -m openwit.training fit CONFIG.yaml. Any number of
    processes resumes the run of any other number.

    The run folder of the configuration holds checkpoints, metrics.jsonl and TensorBoard files. A duration in steps,
    samples or epochs gives the same weights each time on the same machine; a duration in minutes does not, because the
    learning rate then follows the clock.
    """
    from openwit.schemas.common.settings import load_settings
    from openwit.training.config import TrainConfig

    try:
        settings = load_settings(config, TrainConfig, overrides or [])
    except OpenWITError:
        from openwit.training.engine.distributed import SilentExit, is_node_main

        if is_node_main():
            raise
        raise SilentExit(2) from None
    from openwit.training.cli.display import make_display
    from openwit.training.run.loop import fit as run_fit

    display = make_display(make_console(), settings.log.line_seconds)
    try:
        outcome = run_fit(settings, display=display)
    finally:
        display.close()
    if outcome.signal is not None:
        # The shell's convention for a process ended by a signal, so that scripts do not treat it as success.
        raise typer.Exit(128 + outcome.signal)


@app.command(epilog=example("wit-train memory paper/train-vit-b-32.yaml --processes 8"))
def memory(
    config: Annotated[Path, typer.Argument(help="Training configuration (YAML).", metavar="CONFIG.yaml")],
    processes: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="GPUs that share the batch.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key: a.b=value. Repeatable.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Show the memory that a training step needs on a GPU, without chunks and with `memory.chunk` of several sizes.

    It is computed from the sizes of the model; a kernel's own memory is not in it: leave a tenth.
    """
    from openwit.schemas.common.settings import load_settings
    from openwit.training.cli.memory import run_memory
    from openwit.training.config import TrainConfig

    run_memory(load_settings(config, TrainConfig, overrides or []), console=make_console(), processes=processes)


@app.command(
    epilog=example("wit-train retrieval out/demo/run --data out/demo/dataset --split val --contact-sheet sheet.png")
)
def retrieval(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "--dataset",
            help="Dataset folder, tars, Parquet, COCO's or Karpathy's JSON, table of paths, or folder of images.",
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="Split of the data [default: the held-out one, if there are several].")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images that a JSON names.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images, or of their paths.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column of captions, or of lists of them.")] = None,
    prefix: Annotated[str, typer.Option(help="Text to put before every caption, such as 'a photo of '.")] = "",
    image_to_image: Annotated[
        bool, typer.Option("--image-to-image", help="Find images by images of the same class or group.")
    ] = False,
    group_column: Annotated[
        str | None, typer.Option(help="Column of groups, for --image-to-image [default: the class, or group].")
    ] = None,
    batch_size: BatchSize = 256,
    limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Evaluate on the first N images only.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for retrieval.json [default: the run folder].")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Draw captions and their best images to this PNG.")
    ] = None,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Evaluate even on the split that the model was trained on.")
    ] = False,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Evaluate retrieval: recall at 1, 5 and 10 in both directions, with chance level and 95% intervals.

    With --image-to-image: of images among images, where another one of the same class or group is right.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.retrieval import check_options, result_folder, run_image_retrieval, run_retrieval
    from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned
    from openwit.training.evaluation.grouped import open_grouped

    wanted = CaptionedData(data, split=split, images=images, image_column=image_column, caption_column=caption_column)
    captioned = {"--caption-column": caption_column, "--prefix": prefix, "--contact-sheet": contact_sheet}
    check_options(image_to_image, {**captioned, "--images": images}, {"--group-column": group_column})
    loaded = load_model(model, weights=weights, quick_gelu=quick_gelu, report=_print)
    into, console = out or result_folder(model), make_console()
    if image_to_image:
        grouped = open_grouped(wanted, group_column=group_column, limit=limit, report=_print)
        run_image_retrieval(loaded, grouped, console=console, out=into, batch_size=batch_size)
        return
    run_retrieval(
        loaded,
        open_captioned(wanted, _print),
        console=console,
        out=into,
        contact_sheet=contact_sheet,
        batch_size=batch_size,
        limit=limit,
        allow_train=allow_train,
        prefix=prefix,
    )


@app.command(epilog=example("wit-train embed out/demo/run out/demo/dataset --split val --out out/demo/embeddings"))
def embed(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Argument(
            help="Dataset folder, tars, Parquet, COCO's or Karpathy's JSON, table of paths, or folder of images.",
            metavar="DATA",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, or to resume.")],
    split: Annotated[
        str | None, typer.Option(help="Split of the data [default: the held-out one, if there are several].")
    ] = None,
    of: Annotated[Embedded, typer.Option(help="What is embedded.")] = Embedded.BOTH,
    dtype: Annotated[Floats, typer.Option(help="Numbers of the arrays.")] = Floats.FLOAT16,
    part: Annotated[int, typer.Option(min=1, max=MOST_SAMPLES, help="Samples in a part.")] = 50_000,
    share: Annotated[
        str | None,
        typer.Option(help="Make only share I of N of the parts [default: torchrun's or srun's].", metavar="I/N"),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Text to put before every caption, such as 'a photo of '.")] = "",
    images: Annotated[Path | None, typer.Option(help="Folder of the images that a JSON names.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images, or of their paths.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column of captions, or of lists of them.")] = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Embed images and their first captions into arrays and tables of clip-retrieval's layout.

    Run the same command again to resume after an interruption. For several processes use torchrun --nproc-per-node N
    -m openwit.training embed …, or --share I/N on machines that share the folder.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.embed import run_embed, share_of
    from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned
    from openwit.training.evaluation.search.pictures import source_of
    from openwit.training.evaluation.search.write import EmbedSettings

    rank, size = share_of(share)
    wanted = CaptionedData(data, split=split, images=images, image_column=image_column, caption_column=caption_column)
    loaded = load_model(model, weights=weights, quick_gelu=quick_gelu, report=_print)
    settings = EmbedSettings(
        of=["images", "texts"] if of is Embedded.BOTH else [of.value],
        dtype=dtype.value,
        part=part,
        batch_size=batch_size,
        prefix=prefix,
        rank=rank,
        size=size,
        source=source_of(wanted),
        model_path=str(model),
    )
    samples = open_captioned(wanted, _print if rank == 0 else lambda _: None)
    run_embed(loaded, samples, out, settings, console=make_console())


@app.command(epilog=example("wit-train index out/demo/embeddings --out out/demo/index"))
def index(
    embeddings: Annotated[Path, typer.Argument(help="Folder of embeddings.", metavar="EMBEDDINGS")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    of: Annotated[Searched, typer.Option(help="Vectors to index.")] = Searched.IMAGES,
    recall: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Wanted share of the 10 exact nearest that are found.")
    ] = 0.95,
) -> None:
    """Index embeddings with faiss (openwit[search]), and measure the recall of the index against exact search."""
    from openwit.training.evaluation.search.approximate import build_index
    from openwit.training.evaluation.search.vectors import open_vectors

    build_index(open_vectors(embeddings, of.value), out, recall=recall, report=_print)
    _print(f"wrote {out}")


@app.command(epilog=example('wit-train search out/demo/embeddings --text "a red box" --contact-sheet nearest.png'))
def search(
    where: Annotated[Path, typer.Argument(help="Folder of embeddings, or of an index of them.", metavar="INDEX")],
    text: Annotated[str | None, typer.Option(help="Text to search by.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image file to search by.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=10_000, help="Number of results.")] = 10,
    of: Annotated[Searched | None, typer.Option(help="What is found [default: images].")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model that made the embeddings [default: the one that they name].")
    ] = None,
    contact_sheet: Annotated[Path | None, typer.Option(help="Draw the results to this PNG.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write, with the results.")] = None,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Find the nearest images (or captions) to a text or an image, exactly or by an index."""
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.search import check_query, model_of, run_search
    from openwit.training.evaluation.search.find import open_searchable

    check_query(text, image)
    searchable = open_searchable(where, None if of is None else of.value)
    path = model_of(searchable, model)
    run_search(
        searchable,
        lambda: load_model(path, weights=weights, quick_gelu=quick_gelu, report=_print),
        console=make_console(),
        text=text,
        image=image,
        k=k,
        contact_sheet=contact_sheet,
        out=out,
    )


@app.command("zero-shot", epilog=example("wit-train zero-shot out/demo/run --data cifar10.parquet --prompts cifar10"))
def zero_shot(
    model: ModelPath,
    data: Annotated[
        Path | None,
        typer.Option(help="Parquet file of images and labels, folder with one folder per class, or tars with .cls."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Known dataset by name, such as cifar10, below --root.", metavar="NAME")
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of known datasets, see `wit-train datasets`.")] = Path("."),
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
    split: Annotated[
        str | None, typer.Option(help="Split of the data [default: the held-out one, if there are several].")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of numbered classes, one per line from class 0, or a list per dataset (FILE#NAME)."),
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images in Parquet.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels in Parquet.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Classify a random sample of N images.")
    ] = None,
    batch_size: BatchSize = 256,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Classify even images that the model was trained on.")
    ] = False,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write, with every class and confusion.")] = None,
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


@app.command(epilog=example("wit-train datasets data/evaluation"))
def datasets(
    root: Annotated[Path, typer.Argument(help="Folder that holds evaluation datasets.", metavar="ROOT")],
    out: Annotated[Path | None, typer.Option(help="JSON to write, with published sizes and their sources.")] = None,
) -> None:
    """List the paper's and CLIP_benchmark's datasets that a folder holds, with counts against published ones.

    Layouts: CLIP_benchmark's WebDataset export (wds_NAME), torchvision's folders, NAME.parquet, and one folder per
    class. Nothing is downloaded.
    """
    from openwit.training.cli.datasets import show_datasets

    show_datasets(root, console=make_console(), out=out)


@app.command(epilog=example("wit-train probe out/demo/run --data cifar10.parquet --baselines --out probe.json"))
def probe(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(help="Test images: Parquet of images and labels, folder with one per class, or tars with .cls."),
    ],
    train: Annotated[Path | None, typer.Option(help="Training images [default: --data].")] = None,
    val: Annotated[Path | None, typer.Option(help="Images that choose the penalty [default: --train].")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the test images [default: the held-out one, if there are several].")
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split of the training images [default: train, if --train is not given].")
    ] = None,
    val_split: Annotated[
        str | None, typer.Option(help="Split that chooses the penalty [default: a fifth of the training images].")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="Names of numbered classes, one per line from class 0.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images in Parquet.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels in Parquet.")] = None,
    metric: Annotated[Metric, typer.Option(help="Metric on validation and test images.")] = Metric.ACCURACY,
    layer: Annotated[Layer, typer.Option(help="Features before the projection, or after it.")] = Layer.PENULTIMATE,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also probe raw pixels, and the same tower with random weights.")
    ] = False,
    train_limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Train on a random sample of N images.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Test on a random sample of N images.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder that keeps features, to resume and use again.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SAMPLES, help="Of images held out and random weights.")] = 0,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
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
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=_print),
        sets,
        ProbeSettings(layer, metric, seed, batch_size, baselines, features, (train_limit, limit)),
        console=make_console(),
        out=out,
        head=head,
    )


@app.command("few-shot", epilog=example("wit-train few-shot out/demo/run --data cifar10.parquet --plot few-shot.svg"))
def few_shot(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(help="Test images: Parquet of images and labels, folder with one per class, or tars with .cls."),
    ],
    train: Annotated[Path | None, typer.Option(help="Images to draw from [default: --data].")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the test images [default: the held-out one, if there are several].")
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split to draw from [default: train, if --train is not given].")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="Names of numbered classes, one per line from class 0.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images in Parquet.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels in Parquet.")] = None,
    shots: Annotated[str, typer.Option(help="Images per class.", metavar="K,K,...")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of each number.")] = 3,
    prompts: Annotated[str, typer.Option(help="Templates of the zero-shot line, as for zero-shot.")] = "paper",
    metric: Annotated[Metric, typer.Option(help="Metric on validation and test images.")] = Metric.ACCURACY,
    layer: Annotated[Layer, typer.Option(help="Features before the projection, or after it.")] = Layer.PENULTIMATE,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also probe raw pixels, and the same tower with random weights.")
    ] = False,
    train_limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Draw from a random sample of N images.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Test on a random sample of N images.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder that keeps features, to resume and use again.")] = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG to write.")] = None,
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
        load_model(model, weights=weights, quick_gelu=quick_gelu, report=_print),
        sets,
        ProbeSettings(layer, metric, 0, batch_size, baselines, features, (train_limit, limit)),
        shots=counts,
        seeds=seeds,
        templates=templates,
        console=make_console(),
        out=out,
        plot=plot,
    )


@app.command(
    epilog=example("wit-train robustness out/demo/run --base cifar10.parquet --shifted photos/ --out robustness.json")
)
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
        list[Path] | None, typer.Option(help="Earlier JSON whose models the line is fitted to. Repeatable.")
    ] = None,
    prompts: Annotated[str, typer.Option(help="Templates, as for zero-shot.")] = "paper",
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Use a random sample of N images of each set.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder that keeps features, to resume and use again.")] = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG to write.")] = None,
) -> None:
    """Measure accuracy under a shift of the data: effective and relative robustness from the logit-scaled line.

    The line is fitted to the models of --baseline; the models that are given here are compared with it.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.robustness import read_mapping, read_models, report_robustness
    from openwit.training.engine.runtime import cpu_prepared
    from openwit.training.evaluation.classification_data import open_classification
    from openwit.training.evaluation.classification_readers import LabelledData
    from openwit.training.evaluation.probe.sets import open_sets
    from openwit.training.evaluation.prompts import read_prompts
    from openwit.training.evaluation.robustness.measure import measure_shift, shifted_sets

    templates = read_prompts(prompts)
    of_base = LabelledData(base, split=base_split, classes=classes)
    test, training = open_classification(of_base).limited(limit), None
    if train is not None:
        pair = open_sets(
            LabelledData(train, split=train_split, classes=classes), of_base, train_limit=limit, limit=limit
        )
        test, training = pair.test, pair.train
    under = open_classification(LabelledData(shifted, split=shifted_split, classes=shifted_classes)).limited(limit)
    sets = shifted_sets(test, under, train=training, mapping=None if mapping is None else read_mapping(mapping))
    found = [each for path in baseline or [] for each in read_models(path, sets)]
    about, read = [], {}
    for path in models:
        loaded = load_model(path, weights=weights, quick_gelu=quick_gelu, report=_print)
        about.append({"model": str(path), **loaded.about})
        with cpu_prepared(loaded.threads):
            shift = measure_shift(
                loaded, sets, name=str(path), templates=templates, batch_size=batch_size, folder=features
            )
        found += shift.accuracies
        read.update(shift.read)
    described = {"weights": about, "templates": templates, "limit": limit}
    report_robustness(found, sets, read=read, about=described, console=make_console(), out=out, plot=plot)


@app.command(
    epilog=example(
        "wit-train overlap out/demo/run --data cifar10.parquet --report clean.overlap.parquet --page overlap.html"
    )
)
def overlap(
    data: Annotated[
        list[Path],
        typer.Option(help="Evaluation set, as of zero-shot. Repeatable, each with its --report."),
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
        str | None, typer.Option(help="Templates, as of zero-shot [default: those beside the data, else paper].")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data [default: the held-out one].")] = None,
    classes: Annotated[Path | None, typer.Option(help="Names of numbered classes, one per line from class 0.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Judge a random sample of N images.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=0, max=10_000, help="Most pairs that the page shows per set.")] = 60,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write, with every image that was left out.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page to write, with the pairs found.")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG to write: what overlap adds, against its share.")] = None,
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


@app.command(epilog=example("wit-train evaluate out/demo/run --suite suite.yaml --out out/suite"))
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


@app.command(epilog=example("wit-train export out/demo/run --format open_clip --out out/demo/open_clip"))
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

    loaded = load_model(model, weights=weights, average=average, quick_gelu=quick_gelu, report=_print)
    for note in export_model(loaded, out, layout=layout):
        _print(note)
    _print(f"wrote {out}")


@app.command(epilog=example("wit-train tokenizer out/demo/dataset --vocabulary 16384 --out out/demo/merges.txt"))
def tokenizer(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    vocabulary: Annotated[int, typer.Option(min=1, max=MOST_TOKEN_IDS, help="Number of ids, at most 49408.")],
    out: Annotated[Path, typer.Option(help="Merges file to write.")],
    split: Annotated[str, typer.Option(help="Split whose texts are read.")] = "train",
) -> None:
    """Learn a byte-pair encoding of CLIP's kind from a dataset's texts, for use as `model.tokenizer`."""
    from rich.progress import Progress

    from openwit.training.tokenizer.training import learn_tokenizer

    console = make_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading texts", total=None)
        learned = learn_tokenizer(
            dataset,
            split=split,
            vocabulary=vocabulary,
            out=out,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    size = learned.tokenizer.vocabulary_size
    fewer = "" if size == vocabulary else " (the texts hold no more recurring pairs)"
    _print(
        f"wrote {out}: a vocabulary of {size:,}{fewer}, {learned.tokens_per_text:.1f} tokens per text with start and "
        "end; train with model.tokenizer set to it"
    )


@app.command(epilog=example("wit-train average out/run/checkpoints/step-*.pt --out out/run/average.pt"))
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
    _print(f"wrote {out}, the mean of {len(checkpoints)} checkpoints")


@app.command(epilog=example("wit-train settings optim"))
def settings(
    key: Annotated[
        str | None,
        typer.Argument(help="A section, a key such as data.crop, or a word.", metavar="KEY"),
    ] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of configurations, for editors.")
    ] = False,
) -> None:
    """List the settings of a training configuration: type, default and meaning."""
    from openwit.schemas.common.command import print_settings
    from openwit.schemas.common.settings_reference import settings_reference
    from openwit.training.config import TrainConfig

    print_settings(settings_reference(TrainConfig), key, schema=TrainConfig.model_json_schema if json_schema else None)


def _print(line: str) -> None:
    make_console().print(line, markup=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> Any:
    """Run `wit-train`: a user's mistake ends in one sentence on standard error and exit code 2."""
    # Read by the OpenMP runtime when torch loads it. Waiting threads that sleep instead of spinning cost nothing on an
    # idle machine (measured: 1.37 s per step both ways) and make a busy one 1.7 to 3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # At the end, so that it shadows nothing: a module beside the configuration can be named in it (`mypkg.Objective`).
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with ending_when_stopped(), user_errors("wit-train", "train"):
        run_app(app, "wit-train", part="train", arguments=arguments)


if __name__ == "__main__":
    main()
