"""The command `wit-train`. Heavy imports wait until a command runs, so that `--help` answers at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from schemas.command import user_errors
from schemas.errors import UserError

app = typer.Typer(
    name="wit-train",
    help="Train CLIP on a WebImageText dataset, and measure what it has learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
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

    The run folder of the configuration holds checkpoints, metrics.jsonl and TensorBoard files. A duration in steps,
    samples or epochs gives the same weights on every run on the same machine; a duration in minutes does not, because
    the learning rate then follows the clock.
    """
    from schemas.settings import load_settings
    from training.config import TrainConfig
    from training.loop import fit as run_fit
    from training.progress import make_display

    settings = load_settings(config, TrainConfig, overrides or [])
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
    model: Annotated[Path, typer.Argument(help="Run folder (its newest checkpoint) or checkpoint file.")],
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
) -> None:
    """Recall at 1, 5 and 10, text to image and image to text, against chance and with 95% intervals."""
    from training.evaluation.command import RetrievalJob

    job = RetrievalJob(model, dataset, split, batch_size, limit, out, contact_sheet, allow_train)
    job.run(Console())


@contextmanager
def _file_trouble() -> Iterator[None]:
    """A full disk or a file that may not be read is the machine's trouble, so it is said in a sentence too."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or 'a file'}: {error.strerror or error}") from error


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: a user's mistake ends in one sentence on standard error and exit code 2."""
    # Read by the OpenMP runtime when torch loads it. Waiting threads that sleep instead of spinning cost nothing on an
    # idle machine (measured: 1.37 s a step both ways) and make a busy one 1.7 to 3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with user_errors("wit-train"), _file_trouble():
        app(args=arguments)


if __name__ == "__main__":
    main()
