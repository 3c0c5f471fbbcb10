"""Point the steps of a recipe at a sample: the same stages and jobs, on inputs that are small and here."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from openwit.pipeline.check.sample import Sample
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages import STAGES
from openwit.pipeline.stages.base import CANDIDATES, QUERY_LIST
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.embed.settings import EmbedSettings
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.pipeline.step import Step
from openwit.pipeline.text.settings import LanguageSettings, TextFilterSettings


def rehearsed(recipe: Recipe, sample: Sample) -> tuple[Recipe, list[str]]:
    """Return a recipe whose steps read the sample, and the names of steps that were replaced.

    What decides which jobs there are stays as it is; filters, which could drop the whole sample, do not apply. A stage
    of the user's own that reads its own inputs is replaced by ours that writes the same.
    """
    steps, replaced = [], []
    for step in recipe.steps:
        stage = step.load()
        ours = {QUERY_LIST: "queries", CANDIDATES: "candidates"}.get(stage.output)
        if ours is not None and step.stage not in STAGES and not stage.inputs:
            replaced.append(step.name)
            raw: dict[str, Any] = {"tables": ["-"]} if ours == "queries" else {"inputs": ["-"]}
            step = Step(ours, raw, step.name, step.sources)
        change = _CHANGES.get(type(step.settings))
        steps.append(step if change is None else replace(step, settings=change(step.settings, sample)))
    return replace(recipe, steps=tuple(steps)), replaced


def _queries(settings: QuerySettings, sample: Sample) -> QuerySettings:
    bigrams = settings.bigrams and settings.bigrams.model_copy(update={"min_count": 1})
    return settings.model_copy(
        update={
            "wikipedia": [sample.dump] if settings.wikipedia else [],
            "pageviews": [sample.views] if settings.pageviews else [],
            "language": "en",
            "wordnet": None,
            "tables": [sample.queries],
            "min_count": 1,
            "min_views": 1,
            "bigrams": bigrams,
        }
    )


def _candidates(settings: CandidateSettings, sample: Sample) -> CandidateSettings:
    return settings.model_copy(
        update={
            "inputs": [sample.tables],
            "readers": {},
            "max_files": None,
            "part_bytes": 20_000,
            "columns": TableColumns(),
            "filters": TextFilterSettings(apply_to="none"),
            "language": LanguageSettings(),
            "held_out": {},
        }
    )


def _select(settings: SelectSettings, sample: Sample) -> SelectSettings:
    few = len(sample.payload) // 4
    return settings if settings.target_pairs is None else settings.model_copy(update={"target_pairs": few})


def _fetch(settings: FetchSettings, sample: Sample) -> FetchSettings:  # noqa: ARG001
    image = ImageSettings(size=settings.image.size, mode=settings.image.mode)
    return settings.model_copy(
        update={"task": 6, "chunk": 4, "engine": "native", "blocklist": None, "image": image, "min_success": 0.0}
    )


def _dedup(settings: DedupSettings, sample: Sample) -> DedupSettings:
    exclude = [sample.images] if settings.exclude else []
    return settings.model_copy(update={"remove": None, "exclude": exclude, "plain": "keep"})


def _shard(settings: ShardSettings, sample: Sample) -> ShardSettings:  # noqa: ARG001
    return ShardSettings(samples=4, seed=settings.seed)


def _card(settings: CardSettings, sample: Sample) -> CardSettings:  # noqa: ARG001
    return CardSettings(examples=0, queries=0, query_examples=0)


def _embed(settings: EmbedSettings, sample: Sample) -> EmbedSettings:  # noqa: ARG001
    return settings.model_copy(update={"limit": 2})


_CHANGES: dict[type, Callable[[Any, Sample], Any]] = {
    QuerySettings: _queries,
    CandidateSettings: _candidates,
    SelectSettings: _select,
    FetchSettings: _fetch,
    DedupSettings: _dedup,
    ShardSettings: _shard,
    CardSettings: _card,
    EmbedSettings: _embed,
}
