"""Define stages: settings, the ports that a stage reads, the kind of data it writes, its drop reasons, and `run`.

A stage reads the folders of earlier stages and writes its own folder. Two stages are connected by the kind of the
files between them, a table declared in `openwit.schemas`: a step fits wherever an earlier step writes the tables that
its ports read. To add a stage, write a subclass of `Stage`; a recipe names it by its dotted name, and one line in
`openwit.pipeline.stages` gives it a short name.

Importing this module loads pydantic only: the declarations of all stages serve recipes, help texts and documentation,
and what a job needs (Arrow, Beam, libcurl) is imported when it runs.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from openwit.pipeline.common.reasons import Reason
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.settings import Settings
from openwit.schemas.common.storage.store_path import as_path

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageManifest, StageResult
    from openwit.schemas.table import TableSchema

SettingsT = TypeVar("SettingsT", bound=Settings)
Location = str | Path
InputMap = Mapping[str, Location | Sequence[Location]]
"""Where the inputs of a stage are: port to a folder, a file or a URL, or to several."""


@dataclass(frozen=True)
class Kind:
    """A kind of data that one stage writes and another reads.

    Attributes:
        name: of the table; its files are in the subfolder of this name.
        schema: dotted name of the `TableSchema`, as `module:NAME`; empty for a dataset.
        meaning: what a row is.
    """

    name: str
    schema: str
    meaning: str

    def table(self) -> TableSchema | None:
        """Load the schema of the table; None for a dataset, which has its own manifest."""
        if not self.schema:
            return None
        module, _, name = self.schema.partition(":")
        schema: TableSchema = getattr(importlib.import_module(module), name)
        return schema


QUERY_LIST = Kind("queries", "openwit.schemas.tables.queries:QUERIES", "the query list")
CANDIDATES = Kind("candidates", "openwit.schemas.tables.candidates:CANDIDATES", "(image, text) pairs")
SELECTED = Kind("selected", "openwit.schemas.tables.candidates:SELECTED", "pairs that queries drew")
IMAGES = Kind("images", "openwit.schemas.tables.images:IMAGES", "decoded images with their pairs")
SURVIVORS = Kind("survivors", "openwit.schemas.tables.images:SURVIVORS", "images of a dataset, without their bytes")
DEAD = Kind("dead", "openwit.schemas.tables.locks:DEAD", "pairs whose image is gone, changed or left out")
DATASET = Kind("dataset", "", "a dataset: shards, index, metadata and manifest")


@dataclass(frozen=True)
class Port:
    """A named input of a stage.

    Attributes:
        name: as `from` in a recipe names it.
        kind: the kind of data that it takes.
        meaning: what it is for, in a few words.
        optional: whether the stage runs without it. A recipe fills an optional port only where `from` names it.
            Whether a port is needed may also depend on the settings: see `Stage.needs`.
        several: whether it takes the output of several steps.
        takes_file: whether a single file of the kind serves as well as a stage's folder.
    """

    name: str
    kind: Kind
    meaning: str = ""
    optional: bool = False
    several: bool = False
    takes_file: bool = False


class StagePaths:
    """Paths in the folder of a stage; a stage with files beyond its output and its drops has a subclass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def drops(self) -> Path:
        """Folder with a file of `DROPS` per task: dropped pairs, each with its reason."""
        return self.folder / "drops"

    @property
    def query_counts(self) -> Path:
        """Return `QUERY_COUNTS`: the query list with its counts, which is copied from select to the dataset."""
        return self.folder / "queries.parquet"

    @property
    def duplicate_examples(self) -> Path:
        """Return `DUPLICATE_EXAMPLES`: examples of duplicates, which are copied from dedup to the dataset."""
        return self.folder / "duplicates.parquet"

    def output(self, kind: Kind) -> Path:
        """Folder with the files of the stage's output."""
        return self.folder / kind.name

    @staticmethod
    def files(folder: Path) -> list[Path]:
        """Return the finished Parquet files of a folder, in order of name; none if there is no such folder."""
        return sorted(folder.glob("[!.]*.parquet"))


@dataclass(frozen=True)
class Upstream:
    """One input of a stage, opened.

    Attributes:
        location: folder, file or URL.
        manifest: of the finished stage; None for a file, and for a dataset.
    """

    location: str
    manifest: StageManifest | None = None

    @property
    def folder(self) -> Path:
        """Return the location as a path."""
        return as_path(self.location)

    def stage_manifest(self) -> StageManifest:
        """Return the manifest of a port that takes finished stages only."""
        assert self.manifest is not None, f"{self.location} was opened without a manifest"
        return self.manifest


class Inputs:
    """The opened inputs of a stage, by port."""

    def __init__(self, by_port: Mapping[str, Sequence[Upstream]]) -> None:
        self._by_port = by_port

    def one(self, port: str) -> Upstream:
        """Return the input of a port that takes one."""
        return self._by_port[port][0]

    def several(self, port: str) -> Sequence[Upstream]:
        """Return all inputs of a port, in the order in which they were named."""
        return self._by_port.get(port, ())

    def all(self) -> list[Upstream]:
        """Return every input, port by port."""
        return [upstream for found in self._by_port.values() for upstream in found]


@dataclass(frozen=True)
class DatasetInfo:
    """The name of the dataset, and a sentence for the card."""

    name: str = "dataset"
    description: str = ""


@dataclass(frozen=True)
class BuildContext:
    """The build that a stage is a step of.

    Attributes:
        step: name of the step; empty for the stage's own name.
        dataset: how the dataset is called.
        target: URL of the dataset if it is not written to the stage's own folder.
        retry_failed: retry transient failures.
        steps: the recipe's entries of steps that have another name than their stage or named inputs:
            `stage`, `name` and `from`, by name; the dataset's manifest keeps it.
        folders: folders of the earlier steps, by name; empty for a stage that is run alone.
    """

    step: str = ""
    dataset: DatasetInfo = field(default_factory=DatasetInfo)
    target: str | None = None
    retry_failed: bool = False
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)


class StageRun(NamedTuple):
    """The result of a stage's run: its manifest, and whether anything was executed."""

    manifest: StageManifest
    executed: bool


class Stage(ABC, Generic[SettingsT]):
    """A stage of a build. Subclasses set the class attributes and implement `execute`.

    Attributes:
        name: short name; by default also the name of the step in a recipe.
        version: a number to raise when the same settings and inputs give other bytes.
        settings: class of its settings.
        summary: what it does, in one line, for help texts and documentation.
        inputs: the ports it reads.
        output: the kind of data it writes.
        paths: class of the paths in its folder.
        in_place: the output is the input itself, to which files are added (the card of a dataset).
        retries: whether `BuildContext.retry_failed` has an effect on it.
        neutral: settings with which it passes everything on; None if it always changes something. A recipe inserts
            such a step where a later one needs its output (see `openwit.pipeline.neutral_steps`).
        neutral_meaning: what an inserted step does, in a few words.
        shorthands: words that stand for settings in a recipe, as in `- select: all`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    settings: type[SettingsT]
    summary: ClassVar[str]
    inputs: ClassVar[tuple[Port, ...]] = ()
    output: ClassVar[Kind]
    paths: ClassVar[type[StagePaths]] = StagePaths
    in_place: ClassVar[bool] = False
    retries: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_meaning: ClassVar[str] = ""
    shorthands: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def identifier(self) -> str:
        """Return the name of the stage in recipes and manifests: its short name if it is registered, else the dotted
        one.
        """
        from openwit.pipeline.stages import STAGES

        cls = type(self)
        dotted = f"{cls.__module__}.{cls.__qualname__}"
        return self.name if STAGES.get(self.name) == dotted else dotted

    def reasons(self) -> Sequence[Reason]:
        """Return every reason for which the stage drops something, each with its meaning."""
        return ()

    def problem(self, settings: SettingsT, later: Sequence[Stage[Any]]) -> str | None:
        """Return why a recipe cannot run with these settings before the stages that follow; None if it can."""
        return None

    def needs(self, settings: SettingsT, port: Port) -> bool:
        """Return whether a port must be filled under these settings; a recipe fills one that need not be if it can."""
        return not port.optional

    def shared(self, settings: SettingsT) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings that the steps which fill a port must have too, by port; there null means the same."""
        return {}

    def check(self, settings: SettingsT) -> None:
        """Load what the settings name by dotted name, before anything runs.

        Raises:
            RecipeError: it cannot be loaded or called.
        """

    def check_inputs(self, settings: SettingsT) -> None:
        """Look for the local files that the settings name, before an earlier stage runs for hours.

        Raises:
            OpenWITError: one is missing or of the wrong kind.
        """

    def run(
        self, job: Job, settings: SettingsT, inputs: InputMap, folder: Path, *, build: BuildContext | None = None
    ) -> StageRun:
        """Run the stage unless its folder is finished for these settings and inputs.

        Args:
            inputs: port to folder, file or URL; several if the port takes several.
            folder: where the stage writes.
            build: the build that it is a step of.

        Raises:
            OpenWITError: a port is not filled, an input is of the wrong kind, or the folder holds another stage.
        """
        from openwit.pipeline.execution.stage import locked_stage

        self.check(settings)
        folder = as_path(folder).absolute()  # workers may run in another folder
        opened = self.open_inputs(inputs, settings)
        with nullcontext() if self.in_place else locked_stage(folder):
            return self.run_opened(job, settings, opened, folder, build or BuildContext())

    def run_opened(self, job: Job, settings: SettingsT, inputs: Inputs, folder: Path, build: BuildContext) -> StageRun:
        """Run the stage on inputs that `open_inputs` checked."""
        from openwit.pipeline.execution.stage import run_stage

        step = build.step or self.name
        manifest, executed = run_stage(
            job,
            folder,
            self.identifier(),
            self.version,
            self.recorded_settings(settings, build),
            self.identity(settings, inputs, build),
            lambda: self.execute(job, settings, inputs, folder, build),
            self.history(inputs),
            step="" if step == self.identifier() else step,
        )
        return StageRun(manifest, executed)

    @abstractmethod
    def execute(self, job: Job, settings: SettingsT, inputs: Inputs, folder: Path, build: BuildContext) -> StageResult:
        """Write the stage's files to the folder, by file tasks or rounds of `job`, and return what it wrote.

        Files are written whole or not at all (`openwit.schemas.common.atomic`, `TableSchema.write`); the same inputs
        and settings give the same bytes.
        """

    def recorded_settings(self, settings: SettingsT, build: BuildContext) -> dict[str, Any]:
        """Return the settings as the manifest records them; a folder made with others is not resumed."""
        return settings.model_dump(mode="json")

    def identity(self, settings: SettingsT, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        """Return the identity of everything the stage reads; a folder made from something else is not resumed.

        It holds the checksum of the manifest of each finished stage, and size and time of each file. A stage that
        reads files which its settings name adds them.
        """
        return input_identity(self, inputs)

    def history(self, inputs: Inputs) -> list[StageManifest]:
        """Return the manifests whose records and history become the history of this stage."""
        return [upstream.manifest for upstream in inputs.all() if upstream.manifest is not None]

    def open_inputs(self, inputs: InputMap, settings: SettingsT) -> Inputs:
        """Check the inputs of the ports, and read the manifests of finished stages.

        Raises:
            RecipeError: a port is unknown, not filled, or takes one input only.
            DataError: an input is not there, not finished, or of another kind.
        """
        known = {port.name: port for port in self.inputs}
        for name in inputs:
            if name not in known:
                raise RecipeError(f"stage {self.name} has no input {name!r}; it has: {', '.join(known) or 'none'}")
        opened: dict[str, list[Upstream]] = {}
        for port in self.inputs:
            given = inputs.get(port.name, ())
            locations = [given] if isinstance(given, str | Path) else list(given)
            if not locations and self.needs(settings, port):
                raise RecipeError(f"stage {self.name} needs {port.name}: {port.kind.meaning}")
            if len(locations) > 1 and not port.several:
                raise RecipeError(f"stage {self.name} takes one {port.name}, got {len(locations)}")
            opened[port.name] = [_open(port, location) for location in locations]
        return Inputs(opened)


def _open(port: Port, location: Location) -> Upstream:
    from openwit.pipeline.execution.files import STAGE_MANIFEST
    from openwit.pipeline.execution.stage import StageManifest

    if port.kind == DATASET:
        return Upstream(str(location))
    refuse_special(location, str(location))
    folder = as_path(location).absolute()
    location = str(folder)
    if port.takes_file and folder.is_file():
        if not (folder.parent / STAGE_MANIFEST).exists():
            return Upstream(str(location))
        folder = folder.parent
    elif port.takes_file and not folder.exists():
        raise DataError(f"{location} does not exist: give a file of {port.kind.meaning}, or the folder of its stage")
    elif port.takes_file and not (folder / STAGE_MANIFEST).exists():
        single = folder / f"{port.kind.name}.parquet"
        if single.exists():
            return Upstream(str(single))
    from openwit.pipeline.stages import stage_named, writers_of

    manifest = StageManifest.load_any(folder, [stage.name for stage in writers_of(port.kind)])
    if stage_named(manifest.stage).output != port.kind:
        expected = " or ".join(repr(stage.name) for stage in writers_of(port.kind))
        raise DataError(f"{folder} holds the {manifest.stage!r} stage, expected {expected}")
    return Upstream(str(folder), manifest)


def input_identity(stage: Stage[Any], inputs: Inputs) -> dict[str, str]:
    """Identify the opened inputs: the checksum of a finished stage's manifest, size and time of a file."""
    from openwit.pipeline.execution.stage import file_inputs, stage_input

    identity: dict[str, str] = {}
    for port in stage.inputs:
        for n, upstream in enumerate(inputs.several(port.name)):
            name = f"{port.name} {n}" if port.several else port.name
            if upstream.manifest is not None:
                identity[name] = stage_input(upstream.folder)
            else:
                identity[name] = next(iter(file_inputs([upstream.location]).values()))
    return identity
