"""The command `wit-train`. Heavy imports wait until a command runs, so that `--help` answers at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from openwit.schemas.common.command import Version, user_errors
from openwit.schemas.common.errors import OpenWITError

app = typer.Typer(
    name="wit-train",
    help="Train CLIP on a WebImageText dataset, and measure what it has learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root(version: Version = False) -> None:
    pass


@app.command(epilog="Example: wit-train fit workflows/demo/train.yaml --set optim.lr=1e-3 --set run=out/other")
def fit(
    config: Annotated[Path, typer.Argument(help="Training configuration (YAML).", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key: a.b=value. May be given again.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Train a model; run again to go on after an interruption.

    Several processes: torchrun --nproc-per-node N -m openwit.training fit CONFIG.yaml, or srun; any number of
    them goes on where any other number left off.

    The run folder of the configuration holds checkpoints, metrics.jsonl and TensorBoard files. A duration in steps,
    samples or epochs gives the same weights on every run on the same machine; a duration in minutes does not, because
    the learning rate then follows the clock.
    """
    from openwit.schemas.common.settings import load_settings
    from openwit.training.config.train import TrainConfig
    from openwit.training.engine.distributed import QuietExit, speaks
    from openwit.training.run.loop import fit as run_fit
    from openwit.training.run.progress import make_display

    try:
        settings = load_settings(config, TrainConfig, overrides or [])
    except OpenWITError:
        if speaks():
            raise
        raise QuietExit(2) from None
    display = make_display(Console(), settings.log.line_seconds)
    try:
        outcome = run_fit(settings, display)
    finally:
        display.close()
    if outcome.signal is not None:
        # The shell's convention for a process that a signal ended, so that scripts do not take it for success.
        raise typer.Exit(128 + outcome.signal)


@app.command(
    epilog="Example: wit-train retrieval out/demo/run --dataset out/demo/dataset --split val --contact-sheet sheet.png"
)
def retrieval(
    model: Annotated[
        Path,
        typer.Argument(
            help="Run folder (its newest checkpoint), checkpoint file, or weights of OpenAI's or open_clip's.",
            metavar="CHECKPOINT_OR_WEIGHTS",
        ),
    ],
    dataset: Annotated[Path, typer.Option(help="Dataset folder.")],
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "val",
    batch_size: Annotated[int, typer.Option(min=1, help="Images or texts embedded at once.")] = 256,
    limit: Annotated[int | None, typer.Option(min=2, help="Evaluate on the first N images only.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for retrieval.json [default: the run folder]")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Draw captions and their best images to this PNG.")
    ] = None,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Evaluate on the trained split all the same.")
    ] = False,
    weights: Annotated[str, typer.Option(help="model, or ema: their moving average, if kept.")] = "model",
    quick_gelu: Annotated[
        bool | None,
        typer.Option("--quick-gelu/--gelu", help="Activation of foreign weights, which no file of theirs tells."),
    ] = None,
) -> None:
    """Recall at 1, 5 and 10, text to image and image to text, against chance and with 95% intervals."""
    from openwit.training.evaluation.command import RetrievalJob

    RetrievalJob(model, dataset, split, batch_size, limit, out, contact_sheet, allow_train, weights, quick_gelu).run(
        Console()
    )


@app.command("zero-shot", epilog="Example: wit-train zero-shot out/demo/run --data cifar10.parquet --prompts cifar10")
def zero_shot(
    model: Annotated[
        Path,
        typer.Argument(
            help="Run folder (its newest checkpoint), checkpoint file, or weights of OpenAI's or open_clip's.",
            metavar="CHECKPOINT_OR_WEIGHTS",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(help="Parquet file of images and labels, folder of a folder a class, or tars with .cls."),
    ],
    prompts: Annotated[
        str, typer.Option(help="paper, cifar10, name, or a file of a template with {label} a line.")
    ] = "paper",
    split: Annotated[
        str | None, typer.Option(help="Split of the data [default: the held-out one, where there are several]")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Names of numbered classes, one a line from class 0 on.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of images in Parquet.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels in Parquet.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Classify N images, drawn from the whole.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images or texts embedded at once.")] = 256,
    weights: Annotated[str, typer.Option(help="model, or ema: their moving average, if kept.")] = "model",
    quick_gelu: Annotated[
        bool | None,
        typer.Option("--quick-gelu/--gelu", help="Activation of foreign weights, which no file of theirs tells."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write, with every class and confusion.")] = None,
) -> None:
    """Classify images by their classes' names: top-1, top-5 and mean per-class accuracy with 95% intervals."""
    from openwit.training.evaluation.classification_readers import Wanted
    from openwit.training.evaluation.zero_shot_command import ZeroShotJob

    wanted = Wanted(data, split, classes, image_column, label_column)
    ZeroShotJob(model, wanted, prompts, limit, batch_size, weights, quick_gelu, out).run(Console())


@app.command(epilog="Example: wit-train export out/demo/run --format open_clip --out out/demo/open_clip")
def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="Run folder (its newest checkpoint), checkpoint file, or weights of OpenAI's or open_clip's.",
            metavar="RUN_OR_CHECKPOINT",
        ),
    ],
    layout: Annotated[str, typer.Option("--format", help="open_clip, hf or onnx.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    weights: Annotated[str, typer.Option(help="model, or ema: their moving average, if kept.")] = "model",
    average: Annotated[int, typer.Option(min=1, help="Average the weights of the run's last N checkpoints.")] = 1,
    quick_gelu: Annotated[
        bool | None,
        typer.Option("--quick-gelu/--gelu", help="Activation of foreign weights, which no file of theirs tells."),
    ] = None,
) -> None:
    """Write a model for open_clip, for Hugging Face's transformers, or as ONNX graphs.

    Beside the weights stands lineage.json: dataset, step, samples and configuration. The folder is complete or absent.
    """
    from openwit.training.export.command import ExportJob

    ExportJob(model, layout, out, weights, average, quick_gelu).run(Console())


@app.command(epilog="Example: wit-train tokenizer out/demo/dataset --vocabulary 16384 --out out/demo/merges.txt")
def tokenizer(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    vocabulary: Annotated[int, typer.Option(help="Number of ids, at most 49408.")],
    out: Annotated[Path, typer.Option(help="Merges file to write.")],
    split: Annotated[str, typer.Option(help="Split whose texts are read.")] = "train",
) -> None:
    """Learn a byte-pair encoding of CLIP's kind from a dataset's own texts; `model.tokenizer` takes its file."""
    from openwit.training.tokenizer.training import TokenizerJob

    TokenizerJob(dataset, split, vocabulary, out).run(Console())


@app.command(epilog="Example: wit-train average out/run/checkpoints/step-*.pt --out out/run/average.pt")
def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint files of one architecture.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write (.pt); must not exist yet.")],
    weights: Annotated[str, typer.Option(help="model, or ema: their moving averages, if kept.")] = "model",
) -> None:
    """Average the weights of checkpoints into one that can be evaluated and exported."""
    from openwit.training.run.averaging import AverageJob

    AverageJob(checkpoints, out, weights).run(Console())


@contextmanager
def _file_trouble() -> Iterator[None]:
    """A full disk or a file that may not be read is the machine's trouble, so it is said in a sentence too."""
    try:
        yield
    except OSError as error:
        raise OpenWITError(f"{error.filename or 'a file'}: {error.strerror or error}") from error


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: a user's mistake ends in one sentence on standard error and exit code 2."""
    # Read by the OpenMP runtime when torch loads it. Waiting threads that sleep instead of spinning cost nothing on an
    # idle machine (measured: 1.37 s a step both ways) and make a busy one 1.7 to 3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with user_errors("wit-train", "train"), _file_trouble():
        app(args=arguments)


if __name__ == "__main__":
    main()
