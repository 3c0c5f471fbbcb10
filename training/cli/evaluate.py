"""`wit-train evaluate`: a line for each measurement, a table of results, a page."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.printable import printable
from openwit.schemas.common.settings import load_settings
from openwit.training.engine.distributed import SilentExit, process_from_environment
from openwit.training.evaluation.suite.run import Place, Suite
from openwit.training.evaluation.suite.settings import SuiteSettings
from openwit.training.evaluation.suite.table import DONE, FAILED, PENDING


def run_evaluate(models: Sequence[Path], suite: Path, overrides: Sequence[str], *, out: Path, console: Console) -> int:
    """Run the suite, and return 1 if a measurement failed, for scripts; 0 while other processes are still at work.

    Raises:
        RecipeError: the file or what it names is wrong; nothing is computed then.
        StorageError: results cannot be written.
    """
    place = process_from_environment()
    if place is not None and torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    own = Place() if place is None else Place(place.rank, place.size)
    with Progress(console=console, transient=True, disable=not (console.is_terminal and own.rank == 0)) as progress:
        task = progress.add_task("measuring", total=None)

        def say(line: str) -> None:
            progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

        try:
            settings = load_settings(suite, SuiteSettings, overrides).with_models(models)
            planned = Suite(
                settings,
                out,
                place=own,
                say=say,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        except OpenWITError:
            if own.rank == 0:
                raise
            raise SilentExit(2) from None
        rows = planned.run()
    counts = {status: sum(row.status == status for row in rows) for status in (DONE, FAILED, PENDING)}
    shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.print(f"wrote {out / 'index.html'}: {shown}", markup=False, soft_wrap=True)
    # A process that ends with an error ends torchrun's others.
    return int(counts[FAILED] > 0 and not planned.others_at_work())
