"""Define recipes: the steps of a build, read from one YAML file or written in Python.

A step runs a stage under a name, by default the stage's own. Its inputs are the nearest earlier steps that write what
its ports take; `from` names others. Where no step writes it, but steps that pass everything on would (`select` that
keeps every pair, `dedup` that keeps every image), they are inserted. Everything is checked before anything runs:
unknown stages and keys, duplicate names, unfilled ports.

```yaml
name: my-set
steps:
- queries: {wikipedia: [enwiki-*.xml.bz2]}      # short: the stage, which is also the step's name, and its settings
- candidates: {inputs: [crawl/*.warc.gz]}
- select: {cap: 300}
- fetch: {}
- stage: mypkg.memes.NoMemes                    # long: a stage by short or dotted name
  name: no-memes
  from: {images: fetch}
  settings: {share: 0.1}
- dedup: {}
- shard: {samples: 2000}
- card: {}
```

The key `inputs` names what `wit inputs` fetches before a build (`openwit.pipeline.inputs.settings`). It is no part of
a build: a recipe whose inputs came from elsewhere builds the same.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openwit.pipeline.inputs.settings import Wanted, parse_wanted
from openwit.pipeline.neutral_steps import neutral_chain, neutral_settings
from openwit.pipeline.stages import STAGES, stage_named, writers_of
from openwit.pipeline.stages.base import DATASET, DatasetInfo, Port, Stage
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import apply_override, parse_settings, read_yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DATA = {
    **dict.fromkeys((".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson"), "a table"),
    **dict.fromkeys((".warc", ".arc", ".wat"), "a crawl archive"),
    **dict.fromkeys((".tar", ".tgz", ".zip"), "an archive of files"),
}
_STEP_KEYS = ("stage", "name", "from", "settings")
_RECIPE_KEYS = ("name", "description", "inputs", "steps")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Attributes:
        stage: short name of a stage, or the dotted name of its class.
        settings: of the stage: an object of its settings class, a mapping as in a recipe, or a word of
            `Stage.shorthands`; None for its defaults. Read back, it is an object of the class.
        name: of the step and of its folder; by default the stage's name.
        sources: port to the names of the earlier steps that fill it; other ports are filled by kind.

    Raises:
        RecipeError: the stage is unknown, or the settings or the name do not fit it.
    """

    stage: str
    settings: Any = None
    name: str = ""
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stage = self.load()
        if not self.name:
            object.__setattr__(self, "name", stage.name)
        if not NAME.fullmatch(self.name):
            raise RecipeError(f"{self.name!r} is not a name for a step: use letters, digits, '.', '_' and '-'")
        if self.settings is None or isinstance(self.settings, Mapping | str):
            raw = _plain_settings(stage, self.settings, self.name)
            object.__setattr__(self, "settings", parse_settings(raw, stage.settings, f"step {self.name}"))
        if not isinstance(self.settings, stage.settings):
            raise RecipeError(
                f"step {self.name}: settings must be {stage.settings.__name__}, got {type(self.settings).__name__}"
            )
        ports = [port.name for port in stage.inputs]
        for port in self.sources:
            if port not in ports:
                raise RecipeError(
                    f"step {self.name}: stage {self.stage} has no input {port!r}{_hint(port, ports, 'it has')}"
                )

    def load(self) -> Stage[Any]:
        """Return the stage that the step runs."""
        return stage_named(self.stage)

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain data, in the short form if that is complete."""
        settings = self.settings.model_dump(mode="json")
        if not self.further():
            return {self.stage: settings}
        return {**self.further(), "settings": settings}

    def further(self) -> dict[str, Any]:
        """Return what the short form does not hold: another name or stage, and named inputs."""
        if self.name == self.stage and not self.sources:
            return {}
        named = {port: steps[0] if len(steps) == 1 else list(steps) for port, steps in self.sources.items()}
        return {"stage": self.stage, "name": self.name, **({"from": named} if named else {})}


@dataclass(frozen=True)
class Recipe:
    """A build: the name of the dataset and the steps that make it.

    Attributes:
        name: of the dataset.
        steps: in the order in which they run.
        description: of the dataset, for the card.
        inputs: what `wit inputs` fetches for it; not part of the build.
        inserted: names of the steps that were inserted, which pass everything on. They are among `steps`, so that a
            recipe that is written and read again is the same.

    Raises:
        RecipeError: two steps have one name, a port is not filled, or steps do not fit each other.
    """

    name: str
    steps: Sequence[Step]
    description: str = ""
    inputs: Sequence[Wanted] = ()
    inserted: tuple[str, ...] = field(default=(), init=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise RecipeError(f"key 'name': use letters, digits, '.', '_' and '-' (got {self.name!r})")
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise RecipeError("the recipe has no steps")
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen:
                raise RecipeError(f"two steps are named {step.name!r}: give one of them another `name`")
            if step.name in _RECIPE_KEYS:
                raise RecipeError(f"a step cannot be named {step.name!r}: the recipe has a key of this name")
            seen.add(step.name)
        self._insert_neutral_steps()
        self._check_order()
        self._share_settings()

    @property
    def dataset(self) -> DatasetInfo:
        """Return the name and description of the dataset."""
        return DatasetInfo(self.name, self.description)

    def step(self, name: str) -> Step:
        """Return the step of a name.

        Raises:
            RecipeError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise RecipeError(f"no step is named {name!r}{_hint(name, [step.name for step in self.steps], 'steps')}")

    def sources_of(self, step: Step) -> dict[str, list[str]]:
        """Return names of earlier steps that fill each port of a step: those that `sources` names, else the nearest.

        Raises:
            RecipeError: a port is not filled, or what `sources` names does not fit.
        """
        at = next(n for n, other in enumerate(self.steps) if other is step)
        earlier = self.steps[:at]
        found: dict[str, list[str]] = {}
        for port in step.load().inputs:
            if port.name in step.sources:
                found[port.name] = [self._named(step, port, earlier, name) for name in step.sources[port.name]]
                continue
            if port.optional:
                continue
            fits = [other.name for other in earlier if other.load().output == port.kind]
            if not fits and not step.load().needs(step.settings, port):
                continue
            if not fits:
                raise RecipeError(f"step {step.name}: {_unfilled(port)}")
            found[port.name] = fits[-1:]
        return found

    def notes(self) -> list[str]:
        """Return a sentence on each step that was inserted."""
        lines = []
        for name in self.inserted:
            stage = self.step(name).load()
            settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in (stage.neutral or {}).items())
            lines.append(
                f"The recipe has no step {stage.name}: added `{name}: {{{settings}}}` ({stage.neutral_meaning})."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the build as plain data, as its YAML file holds it; where its inputs come from is not in it."""
        return {
            "name": self.name,
            "description": self.description,
            "steps": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe from plain data.

        Args:
            raw: as a YAML file holds it.
            where: the file, for messages.
            overrides: `NAME.key=value`, for a step of that name, or `name=…` and `description=…`.

        Raises:
            RecipeError: a key, a value or the order of the steps is wrong; the message names it and what is allowed.
        """
        _refuse_old_layout(raw, where)
        for key in raw:
            if key not in _RECIPE_KEYS:
                raise RecipeError(f"{where}: unknown key {key!r}{_hint(key, _RECIPE_KEYS, 'known keys')}")
        listed = raw.get("steps")
        if not isinstance(listed, list):
            raise RecipeError(f"{where}: key 'steps' must hold a list of steps, each as `- stage: {{settings}}`")
        head = {"description": "", **{key: value for key, value in raw.items() if key not in ("inputs", "steps")}}
        if "name" not in head and not any(override.startswith("name=") for override in overrides):
            raise RecipeError(f"{where}: key 'name' is missing")
        drafts = [_draft(entry, n, where) for n, entry in enumerate(listed, 1)]
        for override in overrides:
            _override(head, drafts, override)
        try:
            description = head["description"]
            if not isinstance(description, str):
                raise RecipeError(f"key 'description': must be text (got {description!r})")
            steps = [draft.step(where) for draft in drafts]
            return cls(head["name"], steps, description, parse_wanted(raw.get("inputs") or [], where))
        except RecipeError as error:
            raise error if str(error).startswith(where) else RecipeError(f"{where}: {error}") from error

    @classmethod
    def standard(
        cls,
        *,
        name: str,
        queries: QuerySettings | Mapping[str, Any],
        candidates: CandidateSettings | Mapping[str, Any],
        select: SelectSettings | Mapping[str, Any] | None = None,
        fetch: FetchSettings | Mapping[str, Any] | None = None,
        dedup: DedupSettings | Mapping[str, Any] | None = None,
        shard: ShardSettings | Mapping[str, Any] | None = None,
        card: CardSettings | Mapping[str, Any] | None = None,
        description: str = "",
    ) -> Recipe:
        """Return the usual chain from the query list to the card; above `select.oversample` 1 with a second draw.

        Settings are objects of their classes, or mappings as in a recipe.
        """
        drawn = Step("select", select)
        steps = [
            Step("queries", queries),
            Step("candidates", candidates),
            drawn,
            Step("fetch", fetch),
            Step("dedup", dedup),
            *([Step("redraw")] if drawn.settings.oversample > 1 else []),
            Step("shard", shard),
            Step("card", card),
        ]
        return cls(name=name, steps=steps, description=description)

    def _insert_neutral_steps(self) -> None:
        """Insert steps that pass everything on where a step takes what no earlier one writes."""
        steps: list[Step] = []
        taken, inserted = {step.name for step in self.steps}, []
        for step in self.steps:
            stage = step.load()
            for port in stage.inputs:
                written = {earlier.load().output for earlier in steps}
                if port.kind in written or port.name in step.sources or not stage.needs(step.settings, port):
                    continue
                for neutral in neutral_chain(port.kind, written) or ():
                    made = _neutral_step(neutral, taken, steps)
                    steps.append(made)
                    taken.add(made.name)
                    inserted.append(made.name)
            steps.append(step)
        object.__setattr__(self, "steps", tuple(steps))
        object.__setattr__(self, "inserted", tuple(inserted))

    def _share_settings(self) -> None:
        """Pass on the settings that a step and the steps it reads must have in common (`Stage.shared`).

        A step that has no such setting passes it on to those that it reads.
        """
        for step in list(self.steps):
            shared = step.load().shared(step.settings)
            for port, names in self.sources_of(step).items():
                for name in names:
                    self._share(step, self.step(name), shared.get(port, {}))

    def _share(self, step: Step, source: Step, values: Mapping[str, Any]) -> None:
        missing = {}
        beyond = {key: value for key, value in values.items() if key not in type(source.settings).model_fields}
        for names in self.sources_of(source).values() if beyond else ():
            for name in names:
                self._share(step, self.step(name), beyond)
        for key, value in values.items():
            if key in beyond:
                continue
            found = getattr(source.settings, key)
            if found is None:
                missing[key] = value
            elif found != value:
                raise RecipeError(
                    f"step {step.name}: {key} is {value!r}, but {found!r} in step {source.name}, which it reads: "
                    f"set {step.name}.{key} and {source.name}.{key} alike"
                )
        if missing:
            source = self.step(source.name)  # which may have been filled before
            filled = replace(source, settings=source.settings.model_copy(update=missing))
            object.__setattr__(self, "steps", tuple(filled if other is source else other for other in self.steps))

    def _check_order(self) -> None:
        for n, step in enumerate(self.steps):
            self.sources_of(step)
            problem = step.load().problem(step.settings, [later.load() for later in self.steps[n + 1 :]])
            if problem:
                raise RecipeError(f"step {step.name}: {problem}")
        writers = [step.name for step in self.steps if step.load().output == DATASET and not step.load().in_place]
        if len(writers) > 1:
            raise RecipeError(f"steps {' and '.join(writers)} both write the dataset: a recipe builds one")

    def _named(self, step: Step, port: Port, earlier: Sequence[Step], name: str) -> str:
        match = next((other for other in earlier if other.name == name), None)
        if match is None:
            if any(other.name == name for other in self.steps):
                raise RecipeError(f"step {step.name}: `from` names {name!r}, which does not run before it")
            hint = _hint(name, [other.name for other in earlier], "earlier steps")
            raise RecipeError(f"step {step.name}: `from` names {name!r}, but no step has this name{hint}")
        if match.load().output != port.kind:
            raise RecipeError(
                f"step {step.name}: its input {port.name!r} takes {port.kind.name}, "
                f"but step {name!r} writes {match.load().output.name}"
            )
        return name


def _neutral_step(stage: Stage[Any], taken: Set[str], earlier: Sequence[Step]) -> Step:
    """Return a step that passes everything on, under a name that is free; it takes all that earlier steps give."""
    names = (f"{stage.name}-{number}" if number > 1 else stage.name for number in itertools.count(1))
    sources = {}
    for port in stage.inputs:
        fits = [step.name for step in earlier if step.load().output == port.kind]
        if port.several and not port.optional and len(fits) > 1:
            sources[port.name] = fits
    return Step(stage.name, neutral_settings(stage), next(name for name in names if name not in taken), sources)


def _plain_settings(stage: Stage[Any], found: Any, name: str) -> dict[str, Any]:
    """Return the settings of a step as a mapping: nothing for null, what a word of the stage stands for.

    Raises:
        RecipeError: it is neither.
    """
    if isinstance(found, str) and found in stage.shorthands:
        return dict(stage.shorthands[found])
    if not isinstance(found or {}, Mapping):
        words = "".join(f", or {word!r}" for word in stage.shorthands)
        raise RecipeError(f"step {name}: its settings must be key: value{words}, got {found!r}")
    return dict(found or {})


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: the file.
        overrides: `NAME.key=value`; the value is read as YAML.

    Raises:
        RecipeError: the file is missing or not YAML, or the recipe is wrong; see `Recipe.parse`.
    """
    _refuse_data(Path(path))
    return Recipe.parse(read_yaml(Path(path)), str(path), overrides)


def _refuse_data(path: Path) -> None:
    """Say what to do with a table, an archive or a folder that was given in place of a recipe."""
    kinds = [_DATA[suffix] for suffix in map(str.lower, path.suffixes) if suffix in _DATA]
    if path.is_dir():
        kinds = ["a folder"]
    if kinds:
        raise RecipeError(
            f"{path} is {kinds[0]}, not a recipe: `wit init pairs` copies a recipe to edit, whose candidates.inputs "
            f"names data like this; `wit candidates --input {path} --out FOLDER` reads it alone"
        )


@dataclass
class _Draft:
    """A step as plain data, before its settings are checked."""

    stage: str
    name: str
    settings: dict[str, Any]
    sources: dict[str, list[str]]

    def step(self, where: str) -> Step:
        settings = parse_settings(self.settings, stage_named(self.stage).settings, where, prefix=self.name)
        return Step(self.stage, settings, self.name, self.sources)


def _draft(entry: Any, number: int, where: str) -> _Draft:
    """Return one entry of `steps`, in the short or the long form."""
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or not entry:
        raise RecipeError(f"{where}: step {number} must look like `- stage: {{settings}}`, got {entry!r}")
    if "stage" not in entry:
        if len(entry) > 1:
            raise RecipeError(
                f"{where}: step {number} has the keys {', '.join(map(repr, entry))}: begin each step with a dash, or "
                "name its stage with the key 'stage'"
            )
        [(stage, settings)] = entry.items()
        entry = {"stage": stage, "settings": settings}
    for key in entry:
        if key not in _STEP_KEYS:
            raise RecipeError(f"{where}: step {number}: unknown key {key!r}{_hint(key, _STEP_KEYS, 'known keys')}")
    try:
        stage = stage_named(str(entry["stage"]))
    except RecipeError as error:
        raise RecipeError(f"{where}: step {number}: {error}") from error
    name = entry.get("name") or stage.name
    try:
        settings = _plain_settings(stage, entry.get("settings"), name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    sources = entry.get("from") or {}
    if not isinstance(sources, dict):
        raise RecipeError(f"{where}: step {name}: `from` must be input: step, got {sources!r}")
    listed = {port: list(steps) if isinstance(steps, list) else [str(steps)] for port, steps in sources.items()}
    return _Draft(str(entry["stage"]), str(name), copy.deepcopy(settings), listed)


def _override(head: dict[str, Any], drafts: Sequence[_Draft], override: str) -> None:
    dotted, separator, _ = override.partition("=")
    name, *rest = dotted.split(".")
    for draft in drafts:
        # A step may have dots in its name.
        if separator and dotted.startswith(f"{draft.name}."):
            apply_override(draft.settings, override.removeprefix(f"{draft.name}."), within=draft.name)
            return
    if separator and not rest and name in head.keys() | {"name"}:
        apply_override(head, override)
        return
    if not separator or not rest:
        raise RecipeError(f"override {override!r} must look like STEP.key=value")
    raise RecipeError(
        f"override {override!r}: no step is named {name!r}{_hint(name, [draft.name for draft in drafts], 'steps')}"
    )


def _refuse_old_layout(raw: Mapping[str, Any], where: str) -> None:
    old = [key for key in raw if key in STAGES]
    if old and "steps" not in raw:
        raise RecipeError(
            f"{where}: {old[0]!r} is at the top level, but a recipe now lists its stages under `steps:`, as "
            "`- queries: {…}`, `- candidates: {…}`, `- select: {…}`, `- fetch: {…}`, `- dedup: {…}`, `- shard: {…}`, "
            "`- card: {…}` (with oversample: `- redraw: {}` after dedup)"
        )


def _unfilled(port: Port) -> str:
    writers = [stage.name for stage in writers_of(port.kind)]
    remedy = f"; add `- {writers[0]}: {{…}}` before it" if writers else ""
    return (
        f"no earlier step writes {port.kind.name} ({port.kind.meaning}), which its input {port.name!r} takes{remedy}"
    )


def _hint(word: str, known: Sequence[str], label: str) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {label}: {', '.join(known) or 'none'}"
