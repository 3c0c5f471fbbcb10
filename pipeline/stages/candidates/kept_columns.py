"""Find the types of the columns that are kept of the inputs, before any input is read.

A reader that can keep columns has an entry in `TYPES_OF`, and gives each of its pairs the attribute `columns`, as
`openwit.pipeline.common.column_values.rows_as_json` writes it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openwit.pipeline.common.column_types import FoundType, joined_types, type_name, type_named
from openwit.pipeline.common.column_values import UID
from openwit.pipeline.common.counting import ignore
from openwit.pipeline.common.json_types import JsonType
from openwit.pipeline.common.ranges import open_ranges
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.readers.custom import read_records, reader_of
from openwit.pipeline.readers.samples.datasets import is_shard, shard_facts
from openwit.pipeline.readers.samples.fields import FieldNames, field_facts
from openwit.pipeline.readers.samples.folders import folder_samples
from openwit.pipeline.readers.samples.sample import Sample
from openwit.pipeline.readers.samples.tars import tar_samples
from openwit.pipeline.readers.tables.kept_columns import KeptColumns
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import TableFacts, table_facts
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.sources import SAMPLE_KINDS, InputKind, kind_of
from openwit.schemas.common.errors import DataError, OpenWITError, PluginError
from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.storage.remote import local_copy

SETTING = "candidates.columns.keep"


def _facts_of(name: str, settings: CandidateSettings) -> TableFacts:
    kind = kind_of(name)
    found = None
    if kind in SAMPLE_KINDS and is_shard(name, settings.columns):
        found = shard_facts(name, ignore, settings.columns)
    return TYPES_OF[kind](name, settings) if found is None else found


def _of_tar(name: str, settings: CandidateSettings) -> TableFacts:
    with open_ranges(name) as file:
        return _of_samples(tar_samples(file, name, settings.columns, ignore), name, settings.columns)


def _of_samples(samples: Iterator[Sample], name: str, columns: TableColumns) -> TableFacts:
    return field_facts(((sample.facts, True) for sample in samples), FieldNames(columns, name), name)


def _of_reader(name: str, plugin: PluginSettings, columns: TableColumns) -> TableFacts:
    with local_copy(name) as path:
        records = ((record.columns, record.key is not None) for record in read_records(path, name, plugin))
        return field_facts(records, FieldNames(columns, name, only_kept=True), name)


TYPES_OF: dict[InputKind, Callable[[str, CandidateSettings], TableFacts]] = {
    InputKind.TABLE: lambda name, settings: table_facts(name, settings.columns),
    InputKind.TAR: _of_tar,
    InputKind.IMAGES: lambda name, settings: _of_samples(
        folder_samples(name, settings.columns, ignore), name, settings.columns
    ),
}
"""How to find the columns of an input by its kind; other kinds have none."""
HAVE_KEYS = frozenset({InputKind.TAR, InputKind.IMAGES})
"""Kinds of inputs all of whose samples have a key."""


@dataclass(frozen=True)
class FoundColumns:
    """The columns of an input.

    Attributes:
        names: of all.
        types: of those that are kept, by name.
        inferred: the types of JSON values of those that declare none.
        has_key: whether its rows have a key.
    """

    names: list[str]
    types: dict[str, str]
    inferred: dict[str, JsonType]
    has_key: bool

    def found_types(self) -> dict[str, FoundType]:
        """Return the types of the columns that are kept."""
        return {
            name: FoundType(type_named(kind), name in self.inferred, self.inferred.get(name))
            for name, kind in self.types.items()
        }


class LookAtColumns(FileTask[str]):
    """Find the types of the kept columns of an input; writes no file."""

    def __init__(self, settings: CandidateSettings) -> None:
        self.settings = settings

    def run(self, task: Task[str], folder: Path, stats: TaskStats) -> list[Path]:  # noqa: ARG002
        try:
            own = reader_of(task.payload, self.settings.readers)
            if own is not None:
                found = _of_reader(task.payload, own, self.settings.columns)
            else:
                found = _facts_of(task.payload, self.settings)
        except PluginError:
            raise
        except OpenWITError:
            if not self.settings.skip_unreadable:
                raise
            return []
        types = {name: type_name(kind.type) for name, kind in found.kept.items()}
        inferred = {name: kind.json for name, kind in found.kept.items() if kind.inferred}
        stats.extra = FoundColumns(found.names, types, inferred, found.has_key)
        return []


def find_columns(job: Job, folder: Path, inputs: Sequence[str], settings: CandidateSettings) -> KeptColumns:
    """Return what is kept of the inputs; they are only looked at if anything is.

    Raises:
        DataError: a column is in no input, has types that do not go together, or an input has no keys to carry.
    """
    columns, carry = settings.columns, bool(settings.carry_keys)
    kept = KeptColumns(carry_keys=carry, own_uid=columns.key is not None)
    if not columns.keep and not carry:
        return kept
    kinds = {name: kind_of(name) for name in inputs if reader_of(name, settings.readers) is None}
    looked = [
        name
        for name in inputs
        if name not in kinds or (kinds[name] in TYPES_OF and (columns.keep or kinds[name] not in HAVE_KEYS))
    ]
    tasks = [Task(n, f"columns-{n:05d}", name) for n, name in enumerate(looked)]
    results = job.run(folder, tasks, "Look at columns", "inputs", LookAtColumns(settings)) if tasks else []
    found = {name: r.extra_as(FoundColumns) for name, r in zip(looked, results, strict=True) if r.extra}
    if columns.keep != "all":
        _refuse_unknown(columns.keep, found)
    keyed = {name for name, kind in kinds.items() if kind in HAVE_KEYS} | {n for n, of in found.items() if of.has_key}
    without = next((name for name in inputs if name not in keyed), None)
    if carry and without is not None:
        raise DataError(
            f"{without} gives its rows no key, and the dataset is to keep the keys of its input: name "
            "the column of keys in candidates.columns.key, or leave shard.keys at number"
        )
    every = [(name, of.found_types()) for name, of in found.items()]
    types = joined_types(every, setting=SETTING)
    types.pop(UID, None)
    return KeptColumns(types, carry, kept.own_uid)


def _refuse_unknown(keep: Sequence[str], found: dict[str, FoundColumns]) -> None:
    known = {name.strip() for of in found.values() for name in of.names}
    for name in keep:
        if name.strip() not in known:
            where, first = next(iter(found.items()), ("", FoundColumns([], {}, {}, False)))
            listed = ", ".join(map(repr, first.names)) or "none"
            raise DataError(
                f"no input has the column {name!r} that {SETTING} names; "
                + (f"{where} has {listed}" if where else "lists of URLs and pages have no columns")
            )
