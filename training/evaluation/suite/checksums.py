"""Checksums of a suite's data and weights, kept by size and date of the files so that they are read once."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.storage.store_path import is_store
from openwit.schemas.manifest import MANIFEST_NAME
from openwit.training.checkpoints.files import FOLDER
from openwit.training.config.evaluation_data import DatasetSettings
from openwit.training.config.measurements import MeasurementSettings
from openwit.training.evaluation.class_names import BESIDE
from openwit.training.evaluation.file_stats import files_below
from openwit.training.evaluation.measurements.settings import AnyMeasurement
from openwit.training.evaluation.prompts import TEMPLATES_BESIDE
from openwit.training.evaluation.registry.find import locate_one
from openwit.training.evaluation.registry.table import find_known
from openwit.training.evaluation.robustness.results import RESULTS
from openwit.training.evaluation.suite.plan import digest


class Checksums:
    """Checksums that a folder keeps.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Any] = {}

    def data(self, data: DatasetSettings, measurement: AnyMeasurement) -> str:
        """Return the checksum of all files that a measurement reads of a dataset, and of lists beside it.

        Raises:
            DataError: there are no such files.
        """
        return digest([self._path(path) for path in _places(data, measurement)])

    def weights(self, path: Path, about: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what identifies the weights at a path; `about` loads them, where the files are not known yet."""
        if is_store(path):
            return _identity(about())
        refuse_special(path, str(path))
        if not path.exists():
            raise DataError(f"{path} does not exist")
        seen = path / FOLDER if (path / FOLDER).is_dir() else path
        found: dict[str, Any] = self._kept(["weights", str(path), _stats(seen)], lambda: _identity(about()))
        return found

    def _path(self, path: Path) -> str:
        refuse_special(path, str(path))
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if (path / MANIFEST_NAME).is_file():  # it has the checksums of all files
            path = path / MANIFEST_NAME
        found: str = self._kept(["data", _stats(path)], lambda: _sum(path))
        return found

    def _kept(self, seen: Any, compute: Callable[[], Any]) -> Any:
        name = digest(seen)
        if name in self._known:
            return self._known[name]
        path = self._folder / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["value"]
        except (OSError, ValueError, KeyError, TypeError):
            found = compute()
            atomic_write(path, json.dumps({"value": found}) + "\n")
        self._known[name] = found
        return found


def _identity(about: dict[str, Any]) -> dict[str, Any]:
    wanted = ("checkpoint_sha256", "weights_sha256")
    return {key: about[key] for key in wanted if key in about}


def _places(data: DatasetSettings, measurement: AnyMeasurement) -> Iterable[Path]:
    place = data.data
    if data.known is not None:
        place = locate_one(data.root, find_known(data.known)).path
    assert place is not None
    found = [place]
    if data.kind == "labelled" and place.is_file():
        beside = [place.parent / name for name in (*BESIDE, TEMPLATES_BESIDE)]
        found += [path for path in beside if path.is_file()]
    named = (data.train, data.val, data.classes, data.images, data.mapping, data.report)
    found += [path for path in named if path is not None]
    prompts = [*data.prompts, *(getattr(measurement, "prompts", None) or [])]
    lists = [Path(text.partition("#")[0]) for text in prompts]
    found += [path for path in lists if path.is_file()]
    if isinstance(data.base, DatasetSettings) and getattr(measurement, "name", "") == "robustness":
        found += _places(data.base, measurement)
    for key in measurement.places if isinstance(measurement, MeasurementSettings) else ():
        given = getattr(measurement, key)
        found += [_results(path) for path in (given if isinstance(given, list) else [given]) if path is not None]
    return found


def _results(path: Path) -> Path:
    """Return the file of results of a suite's folder, whose other files come and go."""
    return path / RESULTS if (path / RESULTS).is_file() else path


def _files(path: Path) -> list[Path]:
    if any(sign in str(path) for sign in "*?[{") and not path.exists():
        raise DataError(f"{path} is a pattern: a suite takes a file or a folder")
    return files_below(path)


def _stats(path: Path) -> list[list[Any]]:
    """Return (path, size, date, number) of each file."""
    found = [(each, each.stat()) for each in _files(path)]
    return [[str(each.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino] for each, facts in found]


def _sum(path: Path) -> str:
    """Return the checksum of a file, or of names and contents of the files of a folder."""
    if path.is_file():
        return sha256_of(path)
    return digest([[each.relative_to(path).as_posix(), sha256_of(each)] for each in _files(path)])
