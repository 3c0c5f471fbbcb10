"""Run a suite: measure what is missing, keep what is done, in any number of processes that share a folder.

A process takes a model and a dataset by a lock, so that torchrun's processes, or commands started by hand on machines
that share the folder, divide the work as it comes; a killed one loses the measurement that it was at. The last one
to finish has written the whole table.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from openwit import __version__
from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError, one_line
from openwit.schemas.common.locks import lock_file
from openwit.schemas.common.storage_faults import storage_faults
from openwit.training.checkpoints.load import LoadedModel, load_model
from openwit.training.evaluation.measurements.registry import MeasureContext, Measurement
from openwit.training.evaluation.measurements.settings import described, settings_of
from openwit.training.evaluation.suite.checksums import Checksums
from openwit.training.evaluation.suite.plan import Cell, digest, plan
from openwit.training.evaluation.suite.settings import SuiteModel, SuiteSettings
from openwit.training.evaluation.suite.table import DONE, FAILED, PENDING, Row, read_json, write_results

VERSION = 1
"""Of how measurements are computed: results of other versions are measured again."""

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Place:
    """This process among those that were started together; `(0, 1)` alone."""

    rank: int = 0
    size: int = 1


class Suite:
    """The cells of a suite and the folder of its results.

    Args:
        settings: of the suite.
        out: folder of results.
        place: of this process; it decides which model it begins with.
        say: receives a sentence for each cell.
        progress: receives (done, total) within a cell.
    """

    def __init__(
        self,
        settings: SuiteSettings,
        out: Path,
        *,
        place: Place = Place(),
        say: Say = lambda _: None,
        progress: Progress = lambda _, __: None,
    ) -> None:
        self.cells = plan(settings)
        self._settings, self._out, self._place = settings, out, place
        self._say, self._progress = say, progress
        self._checksums = Checksums(out / "checksums")
        self._loaded: tuple[str, LoadedModel] | None = None
        self._began = time.time()

    def run(self) -> list[Row]:
        """Measure what is missing, and write the table and the page; returns the rows as they are written.

        Raises:
            StorageError: the folder cannot be written.
        """
        with storage_faults(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            pairs = list(dict.fromkeys(cell.pair for cell in self.cells))
            first = self._place.rank * len(pairs) // self._place.size
            for pair in [*pairs[first:], *pairs[:first]]:
                with _Held(self._out / "locks" / pair) as held:
                    if held:
                        for number, cell in enumerate(self.cells, 1):
                            if cell.pair == pair:
                                self._cell(cell, f"{number}/{len(self.cells)}")
            self._loaded = None
            return self._collect()

    def others_at_work(self) -> bool:
        """Return whether another process measures a cell of this suite."""
        for pair in dict.fromkeys(cell.pair for cell in self.cells):
            with _Held(self._out / "locks" / pair) as held:
                if not held:
                    return True
        return False

    def _cell(self, cell: Cell, number: str) -> None:
        failure = self._out / "failed" / f"{cell.id}.json"
        earlier = read_json(failure)
        if earlier is not None and earlier.get("at", 0) >= self._began and earlier.get("plan") == _plan(cell):
            return  # another of these processes has just tried
        done = self._out / "done" / f"{cell.id}.json"
        begun = time.perf_counter()
        try:
            key, about = self._key(cell)
            path = self._out / "cells" / f"{key}.json"
            is_kept = read_json(path) is not None
            found = None if is_kept else self._measured(cell)
        except Exception as error:
            reason = str(error) if isinstance(error, OpenWITError) else one_line(error)
            done.unlink(missing_ok=True)
            atomic_write(failure, json.dumps({"reason": reason, "plan": _plan(cell), "at": time.time()}) + "\n")
            self._say(f"{number} failed: {cell.title}: {reason}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return
        if found is None:
            self._say(f"{number} kept: {cell.title}")
        else:
            atomic_write(path, json.dumps(_record(cell, found, about), indent=1, ensure_ascii=False) + "\n")
            seconds = time.perf_counter() - begun
            self._say(f"{number} {cell.title}: {_headline(found)} ({found.images:,} images, {seconds:.1f} s)")
        atomic_write(done, json.dumps({"key": key}) + "\n")
        failure.unlink(missing_ok=True)

    def _key(self, cell: Cell) -> tuple[str, dict[str, Any]]:
        weights = self._checksums.weights(cell.model.path, lambda: self._model(cell.model).about)
        about = {
            "weights": {**weights, **cell.model.model_dump(mode="json", include={"weights", "quick_gelu"})},
            "data": self._checksums.data(cell.data, cell.measurement),
            "settings": {**settings_of(cell.measurement), "data": described(cell.data)},
            "version": VERSION,
        }
        return digest(about)[:32], about

    def _model(self, model: SuiteModel) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != model.title:
            self._loaded = None  # two models at once may not fit
            loaded = load_model(model.path, weights=model.weights, quick_gelu=model.quick_gelu, report=self._say)
            self._loaded = model.title, loaded
        return self._loaded[1]

    def _measured(self, cell: Cell) -> Measurement:
        code = cell.registered.code
        opened = code.open_data(cell.data, cell.measurement, lambda _: None)
        context = MeasureContext(
            self._model(cell.model), cell.data, self._settings.batch_size, self._out / "features", self._progress
        )
        return code.measure(context, opened, cell.measurement)

    def _collect(self) -> list[Row]:
        with _Held(self._out / "locks" / "table", wait=True):
            rows = [self._row(cell) for cell in self.cells]
            write_results(self._settings, rows, self._out)
        return rows

    def _row(self, cell: Cell) -> Row:
        done = read_json(self._out / "done" / f"{cell.id}.json")
        failed = read_json(self._out / "failed" / f"{cell.id}.json")
        if failed is not None and failed.get("plan") == _plan(cell):
            return Row(cell, FAILED, reason=str(failed.get("reason")))
        record = None if done is None else read_json(self._out / "cells" / f"{done.get('key')}.json")
        if record is None or record.get("plan") != _plan(cell):
            return Row(cell, PENDING, reason="not measured yet: another process is at it, or was ended")
        return Row(cell, DONE, record={**record, "key": done and done["key"]})


def _plan(cell: Cell) -> str:
    """Return a digest of what was asked for, to tell results of an edited suite from those of this one."""
    return digest(
        [
            settings_of(cell.measurement),
            described(cell.data),
            cell.model.model_dump(mode="json", include={"weights", "quick_gelu"}),
        ]
    )


def _record(cell: Cell, found: Measurement, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "plan": _plan(cell),
        "metrics": {name: asdict(figure) for name, figure in found.metrics.items()},
        "images": found.images,
        "unreadable": list(found.unreadable),
        "left_out": dict(found.left_out),
        **about,
        "versions": {"openwit": __version__, "torch": torch.__version__},
        "details": dict(found.details),
    }


def _headline(found: Measurement) -> str:
    name, figure = next(iter(found.metrics.items()), ("", None))
    return "no metrics" if figure is None else f"{name} {figure.value:.4f}"


class _Held:
    """A lock file of the results' folder; the block gets False if another process holds it."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path, self._wait = path, wait

    def __enter__(self) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        return lock_file(self._file, wait=self._wait)

    def __exit__(self, *_: object) -> None:
        self._file.close()
