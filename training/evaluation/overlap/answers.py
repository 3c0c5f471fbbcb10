"""Tell which images of a set were classified correctly: zero-shot by a model, or as a file of results says."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.wording import counted
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.zero_shot import HeadScorer, ObjectiveScorer, Scorer, classify

RIGHT_COLUMNS = ("correct", "right")
UNREADABLE = "unreadable"
NO_RESULT = "no result in the file"


@dataclass(frozen=True)
class PerImage:
    """Answers, one entry per image of the set.

    Attributes:
        right: (N,) whether it was classified correctly.
        judged: (N,) whether there is an answer.
        left_out: keys of the images without one, by reason.
    """

    right: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    left_out: dict[str, list[str]]


def classified(
    model: LoadedModel,
    data: ClassificationSet,
    templates: tuple[str, ...],
    *,
    batch_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> PerImage:
    """Classify a set zero-shot, as `wit-train zero-shot` does.

    Raises:
        DataError: no image can be read, or images have several classes.
    """
    check_single(data)
    device = pick_device("auto")
    autocast = make_autocast(device, model.precision)
    module = model.to(device).model
    # Keys may repeat, and unreadable images are told by key: numbers take their place here.
    numbered = replace(data, keys=[str(number) for number in range(len(data))])
    with cpu_prepared(model.threads):
        scorer: Scorer
        if model.embeds:
            embedder = Embedder(module, model.tokenizer, device=device, autocast=autocast, batch_size=batch_size)
            scorer = HeadScorer(embedder, data.classes, templates)
        else:
            scorer = ObjectiveScorer(
                module,
                model.objective,
                model.tokenizer,
                device=device,
                autocast=autocast,
                classes=data.classes,
                templates=templates,
            )
        answers = classify(numbered, scorer, inputs=module.inputs, batch_size=batch_size, progress=progress)
    judged = np.ones(len(data), dtype=np.bool_)
    judged[[int(number) for number in answers.unreadable]] = False
    right = np.zeros(len(data), dtype=np.bool_)
    right[judged] = answers.ranks == 0
    bad = [data.key(int(number)) for number in answers.unreadable]
    return PerImage(right, judged, {UNREADABLE: bad} if bad else {})


def check_single(data: ClassificationSet) -> None:
    """Refuse a set whose images have several classes.

    Raises:
        DataError: it is one: right and wrong, which the binomial test counts, do not exist there.
    """
    if data.truth is not None:
        raise DataError(
            f"the images of {data.title} have several classes, so none is simply right or wrong: give a file of "
            "results per image (--results)"
        )


def read_results(path: Path, data: ClassificationSet, report: Callable[[str], None] | None = None) -> PerImage:
    """Read answers from a table with a column `key` of the images' names and `correct` of 1 or 0.

    Args:
        path: `.parquet`, `.csv`, `.tsv` or `.jsonl`. `label` and `predicted` may take the place of `correct`.
        data: the set; the names are its keys, as the results of other commands have them.
        report: receives a sentence on results of other images.

    Raises:
        DataError: it cannot be read, has other columns, names an image twice, or none of the set's.
    """
    table = _table(path)
    if "key" not in table.column_names:
        raise DataError(f"{path} has no column key of the images' names (it has: {', '.join(table.column_names)})")
    keys = [str(key) for key in table["key"].to_pylist()]
    right = _right(table, path)
    repeated = len(data.keys) - len(set(data.keys))
    if repeated:
        raise DataError(f"{repeated:,} images of {data.title} share their name with another: results cannot name them")
    if len(set(keys)) != len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise DataError(f"{path} has several results for {twice!r}")
    known = dict(zip(keys, right, strict=True))
    judged = np.array([key in known for key in data.keys], dtype=np.bool_)
    if not judged.any():
        raise DataError(
            f"{path} has no result for an image of {data.title}: its first key is {keys[0] if keys else None!r}, "
            f"and the set's {data.key(0)!r}"
        )
    missing = [key for key in data.keys if key not in known]
    others = known.keys() - set(data.keys)
    if others and report is not None:
        report(f"{path}: {counted(len(others), 'result')} of images not in {data.title}, such as {min(others)!r}")
    found = np.array([known.get(key, False) for key in data.keys], dtype=np.bool_)
    return PerImage(found, judged, {NO_RESULT: missing} if missing else {})


def _table(path: Path) -> pa.Table:
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".parquet": pq.read_table,
        ".csv": pa_csv.read_csv,
        ".tsv": lambda each: pa_csv.read_csv(each, parse_options=pa_csv.ParseOptions(delimiter="\t")),
        ".jsonl": pa_json.read_json,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: results are a table in {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    try:
        return readers[path.suffix.lower()](path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix.lower()}: {one_line(error)}") from error


def _right(table: pa.Table, path: Path) -> list[bool]:
    names = table.column_names
    column = next((name for name in RIGHT_COLUMNS if name in names), None)
    if column is None and {"label", "predicted"} <= set(names):
        pairs = zip(table["label"].to_pylist(), table["predicted"].to_pylist(), strict=True)
        return [one is not None and one == other for one, other in pairs]
    if column is None:
        raise DataError(
            f"{path} has no column correct of 1 or 0, nor label and predicted (it has: {', '.join(names)})"
        )
    values: list[Any] = table[column].to_pylist()
    for row, value in enumerate(values):
        if value is None or isinstance(value, str) or value not in (0, 1):
            held = "no number" if value is None else repr(value)
            raise DataError(f"column {column} of {path} holds {held} in row {row}: 1 is right, 0 is wrong")
    return [bool(value) for value in values]
