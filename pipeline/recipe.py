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

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openwit.pipeline.inputs.settings import Wanted, parse_wanted
from openwit.pipeline.neutral_steps import neutral_chain, neutral_settings
from openwit.pipeline.recipe_text import (
    Draft,
    apply_to_draft,
    hint,
    read_draft,
    refuse_data,
    refuse_old_layout,
)
from openwit.pipeline.stages import stage_named
from openwit.pipeline.stages.base import DatasetInfo, Stage
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.pipeline.step import NAME, Step
from openwit.pipeline.step_graph import check_order, share_settings, sources_of
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings, read_yaml

_RECIPE_KEYS = ("name", "description", "inputs", "steps")


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
        check_order(self.steps)
        object.__setattr__(self, "steps", share_settings(self.steps))

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
        raise RecipeError(f"no step is named {name!r}{hint(name, [step.name for step in self.steps], 'steps')}")

    def sources_of(self, step: Step) -> dict[str, list[str]]:
        """Return names of earlier steps that fill each port of a step: those that `sources` names, else the nearest.

        Raises:
            RecipeError: a port is not filled, or what `sources` names does not fit.
        """
        return sources_of(self.steps, step)

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
        refuse_old_layout(raw, where)
        for key in raw:
            if key not in _RECIPE_KEYS:
                raise RecipeError(f"{where}: unknown key {key!r}{hint(key, _RECIPE_KEYS, 'known keys')}")
        listed = raw.get("steps")
        if not isinstance(listed, list):
            raise RecipeError(f"{where}: key 'steps' must hold a list of steps, each as `- stage: {{settings}}`")
        head = {"description": "", **{key: value for key, value in raw.items() if key not in ("inputs", "steps")}}
        if "name" not in head and not any(override.startswith("name=") for override in overrides):
            raise RecipeError(f"{where}: key 'name' is missing")
        drafts = [read_draft(entry, n, where) for n, entry in enumerate(listed, 1)]
        for override in overrides:
            apply_to_draft(head, drafts, override)
        try:
            description = head["description"]
            if not isinstance(description, str):
                raise RecipeError(f"key 'description': must be text (got {description!r})")
            steps = [_step(draft, where) for draft in drafts]
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


def _neutral_step(stage: Stage[Any], taken: Set[str], earlier: Sequence[Step]) -> Step:
    """Return a step that passes everything on, under a name that is free; it takes all that earlier steps give."""
    names = (f"{stage.name}-{number}" if number > 1 else stage.name for number in itertools.count(1))
    sources = {}
    for port in stage.inputs:
        fits = [step.name for step in earlier if step.load().output == port.kind]
        if port.several and not port.optional and len(fits) > 1:
            sources[port.name] = fits
    return Step(stage.name, neutral_settings(stage), next(name for name in names if name not in taken), sources)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: the file.
        overrides: `NAME.key=value`; the value is read as YAML.

    Raises:
        RecipeError: the file is missing or not YAML, or the recipe is wrong; see `Recipe.parse`.
    """
    refuse_data(Path(path))
    return Recipe.parse(read_yaml(Path(path)), str(path), overrides)


def _step(draft: Draft, where: str) -> Step:
    settings = parse_settings(draft.settings, stage_named(draft.stage).settings, where, prefix=draft.name)
    return Step(draft.stage, settings, draft.name, draft.sources)
