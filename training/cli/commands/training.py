"""Define the commands that train: fit, memory, tokenizer, settings."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console
from openwit.schemas.common.errors import OpenWITError
from openwit.training.cli.options import ConfigFile, Overrides, file_to_write, say
from openwit.training.config.limits import MOST_PROCESSES, MOST_TOKEN_IDS


def fit(
    config: ConfigFile,
    overrides: Overrides = None,
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


def memory(
    config: ConfigFile,
    processes: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="GPUs that share the batch.")] = 1,
    overrides: Overrides = None,
) -> None:
    """Show the memory that a training step needs on a GPU, without chunks and with `memory.chunk` of several sizes.

    It is computed from the sizes of the model; a kernel's own memory is not in it: leave a tenth.
    """
    from openwit.schemas.common.settings import load_settings
    from openwit.training.cli.memory import run_memory
    from openwit.training.config import TrainConfig

    run_memory(load_settings(config, TrainConfig, overrides or []), console=make_console(), processes=processes)


def tokenizer(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    vocabulary: Annotated[int, typer.Option(min=1, max=MOST_TOKEN_IDS, help="Number of ids, at most 49408.")],
    out: Annotated[Path, file_to_write("Merges file to write.")],
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
    say(
        f"wrote {out}: a vocabulary of {size:,}{fewer}, {learned.tokens_per_text:.1f} tokens per text with start and "
        "end; train with model.tokenizer set to it"
    )


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
