"""`wit-train embed`: a folder of embeddings, and what could not be read."""

import re
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.cli.retrieval import named
from openwit.training.config.choices import Embedded
from openwit.training.data.sharded import Dataset
from openwit.training.engine.distributed import process_from_environment
from openwit.training.evaluation.search.write import EmbedSettings, write_embeddings

_SHARE = re.compile(r"([0-9]+)/([0-9]+)\Z")


def run_embed(model: LoadedModel, dataset: Dataset, out: Path, settings: EmbedSettings, *, console: Console) -> None:
    """Embed, and say what was written."""
    main = settings.rank == 0
    for note in model.notes if main else ():
        console.print(note, markup=False, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not (console.is_terminal and main)) as progress:
        task = progress.add_task("embedding", total=None)
        outcome = write_embeddings(
            model,
            dataset,
            out,
            settings,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if outcome.records is None:
        console.print(
            f"share {settings.rank + 1}/{settings.size}: {outcome.made} parts made; {out} is complete when all shares "
            "are",
            markup=False,
            soft_wrap=True,
        )
        return
    if not outcome.made and not main:
        return
    rows = sum(record.rows for record in outcome.records)
    skipped = outcome.unreadable
    aside = f"; {len(skipped):,} unreadable were left out{named(skipped)}" if skipped else ""
    verb = "wrote" if outcome.made else "nothing to do: complete is"
    console.print(
        f"{verb} {out}: {rows:,} rows of {' and '.join(settings.of)} in {len(outcome.records)} parts{aside}",
        markup=False,
        soft_wrap=True,
    )


def embedded(of: Embedded, data: Path, *, captioned: bool) -> list[str]:
    """Return what is embedded: only images of data without captions.

    Raises:
        DataError: only captions are asked for, and there are none.
    """
    if captioned:
        return ["images", "texts"] if of is Embedded.BOTH else [of.value]
    if of is Embedded.TEXTS:
        raise DataError(f"{data} has no captions to embed: leave out --of, or choose --of {Embedded.IMAGES}")
    return ["images"]


def share_of(text: str | None) -> tuple[int, int]:
    """Return the number of this process from 0 and the number of processes, of `I/N`, torchrun or srun.

    Raises:
        RecipeError: it is not I/N with I from 1 to N.
    """
    if text is None:
        place = process_from_environment()
        if place is not None and torch.cuda.is_available():
            torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
        return (0, 1) if place is None else (place.rank, place.size)
    found = _SHARE.match(text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) <= 1_000_000:
        raise RecipeError(f"--share {text} must be I/N with I from 1 to N, such as 1/4")
    return int(found[1]) - 1, int(found[2])
