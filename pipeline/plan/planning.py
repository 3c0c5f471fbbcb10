"""Plan a build: what each step would give, weigh and take, from a slice of the inputs and from stated assumptions."""

import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openwit.pipeline.build import STAGES
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.plan.estimate import ZERO, PairEstimate, Range, pairs_of, total_of
from openwit.pipeline.plan.sample import Matches, Sample, make_list, match_sample, read_sample
from openwit.pipeline.plan.settings import Assumptions
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates.stage import PAIRS_STEP
from openwit.pipeline.stages.queries import QueriesPaths
from openwit.pipeline.step import Step
from openwit.schemas.common.errors import RecipeError

# Measured on one core, with their conditions in docs/scale.md: seconds per candidate, image, image, image.
SELECT_S, DEDUP_S, SHARD_S, CARD_S = 22e-6, 170e-6, 1 / 2867, 21e-6
# Bytes of a row of matches and of a selected pair (docs/scale.md).
_MATCH_BYTES, _SELECTED_BYTES = 60, 160
_BYTES_PER_PIXEL = 0.5
# How far a documented rate may be from that of another machine, other images and other servers.
_RATE, _WEB, _SIZE = 2.0, 3.0, 2.0


@dataclass(frozen=True)
class StepPlan:
    """What a step of the recipe would do.

    Attributes:
        name: of the step.
        unit: of the rows.
        rows: that it would pass on.
        core_hours: of work, without waiting for the network.
        disk: bytes that it would write.
        drops: shares of what enters it that leave it, by reason, where the slice tells them.
        basis: what the row rests on: the slice, a rate of docs/scale.md, an assumption.
    """

    name: str
    unit: str
    rows: Range
    core_hours: Range = ZERO
    disk: Range = ZERO
    drops: dict[str, float] = field(default_factory=dict)
    basis: str = "slice"


@dataclass(frozen=True)
class BuildPlan:
    """What a build would give and cost.

    Attributes:
        recipe: its name.
        steps: in their order.
        read_bytes, input_bytes: of the slices, and of all inputs.
        read_files, input_files: likewise.
        seconds: that the slice took.
        workers: cores that the hours are divided by.
        selection: what the selection rests on; None without one.
        download_bytes: from the web.
        prices: cost by what it is for, where prices were given.
        unknown: what cannot be known from a slice, in sentences.
    """

    recipe: str
    steps: list[StepPlan]
    read_bytes: float
    input_bytes: int
    read_files: int
    input_files: int
    seconds: float
    workers: int
    selection: PairEstimate | None
    download_bytes: Range
    prices: dict[str, Range]
    unknown: list[str]

    @property
    def core_hours(self) -> Range:
        """Return the hours of all steps."""
        return sum((step.core_hours for step in self.steps), ZERO)

    @property
    def disk(self) -> Range:
        """Return the bytes that all steps write."""
        return sum((step.disk for step in self.steps), ZERO)

    def step(self, name: str) -> StepPlan:
        """Return the plan of a step."""
        return next(step for step in self.steps if step.name == name)


def plan_build(
    recipe: Recipe, job: Job, assumptions: Assumptions | None = None, *, workdir: Path | None = None
) -> BuildPlan:
    """Return what a build would give and cost; nothing is written but temporary files.

    Args:
        recipe: to plan.
        job: its engine counts the words of a slice of a dump.
        assumptions: what a slice cannot measure.
        workdir: of an earlier build; its finished query list is taken.

    Raises:
        RecipeError: the recipe has no step candidates.
        DataError: the inputs are missing, or none can be read in part.
    """
    assumptions = assumptions or Assumptions()
    by_stage = {step.stage: step for step in recipe.steps}
    if "candidates" not in by_stage:
        raise RecipeError("a plan needs a step candidates: its inputs are what a slice is read of")
    for step in recipe.steps:
        step.load().check(step.settings)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="openwit-plan-") as temporary:
        folder = Path(temporary)
        sample = read_sample(by_stage["candidates"].settings, assumptions, folder)
        planner = _Planner(recipe, assumptions, sample)
        # A selection that passes everything on needs no matches to be planned.
        if {"queries", "select"} <= by_stage.keys() and str(by_stage["select"].settings.balance) != "all":
            queries = _query_list(job, by_stage["queries"], folder, workdir, planner)
            planner.match(match_sample(sample, queries, by_stage["select"].settings, folder), by_stage["select"])
        return planner.plan(time.monotonic() - started)


def _query_list(job: Job, step: Step, folder: Path, workdir: Path | None, planner: "_Planner") -> Path:
    if workdir is not None:
        finished = QueriesPaths(workdir / STAGES / step.name).queries
        if finished.exists():
            return finished
    queries, missing, share = make_list(job, step.settings, folder / "queries")
    if missing:
        planner.unknown.append(
            f"The query list of the plan has {missing}; the build's has more, and so more matches. A list that "
            "`wit build` or `wit queries` has finished in --workdir is taken instead."
        )
    planner.dump_share = share
    return queries


class _Planner:
    """The plan in the making."""

    def __init__(self, recipe: Recipe, assumptions: Assumptions, sample: Sample) -> None:
        self.recipe, self.assumptions, self.sample = recipe, assumptions, sample
        self.unknown: list[str] = [f"{problem}: left out of the slice." for problem in sample.unread]
        self.dump_share = 1.0
        self.selection: PairEstimate | None = None
        self.matches: Matches | None = None
        self.scales = self._scales()
        self.candidates = self._total([float(found.candidates) for found in sample.slices])
        self.rows, self.download = self.candidates, ZERO
        self.images = self._total([float(found.images) for found in self.sample.slices])
        web = self._total([float(found.of_web) for found in self.sample.slices])
        self.of_web = min(1.0, web.mid / self.candidates.mid) if self.candidates.mid else 1.0

    def _scales(self) -> np.ndarray:
        """Return by how much each slice stands for its kind of inputs."""
        scales = np.ones(len(self.sample.slices))
        for stratum in self.sample.strata:
            at = [n for n, found in enumerate(self.sample.slices) if found.taken.kind == stratum.kind]
            read = sum(self.sample.slices[n].taken.bytes for n in at)
            scales[at] = max(1.0, stratum.bytes / read) if read else 1.0
        return scales

    def _total(self, counts: list[float]) -> Range:
        total = ZERO
        for stratum in self.sample.strata:
            at = [n for n, found in enumerate(self.sample.slices) if found.taken.kind == stratum.kind]
            sizes = [self.sample.slices[n].taken.bytes for n in at]
            total += total_of([counts[n] for n in at], sizes, stratum.bytes)
        return total

    @property
    def is_exact(self) -> bool:
        """Return whether the slice is all."""
        return bool((self.scales == 1.0).all())

    def match(self, matches: Matches, step: Step) -> None:
        """Take the matches of the sample."""
        self.matches = matches
        weights = self.scales[matches.slice_of]
        self.selection = pairs_of(step.settings, matches.queries, matches.offsets, ids=matches.ids, weights=weights)

    def plan(self, seconds: float) -> BuildPlan:
        """Return the plan of every step."""
        steps = [self._step(step) for step in self.recipe.steps]
        prices = self._prices(steps)
        self._say_unknown()
        return BuildPlan(
            self.recipe.name,
            steps,
            sum(found.taken.bytes for found in self.sample.slices),
            sum(stratum.bytes for stratum in self.sample.strata),
            len({found.taken.part.input for found in self.sample.slices}),
            sum(stratum.files for stratum in self.sample.strata),
            seconds,
            self._workers,
            self.selection,
            self.download,
            prices,
            self.unknown,
        )

    @property
    def _workers(self) -> int:
        return self.assumptions.workers or os.cpu_count() or 1

    def _step(self, step: Step) -> StepPlan:
        made = {
            "queries": self._queries,
            "candidates": self._candidates,
            "select": self._select,
            "fetch": self._fetch,
            "dedup": self._dedup,
            "redraw": self._passing,
            "shard": self._shard,
            "card": self._card,
            "embed": self._embed,
        }.get(step.stage)
        if made is None:
            return StepPlan(step.name, "rows", self.rows, basis="your own stage: taken to pass everything on")
        return made(step)

    def _embed(self, step: Step) -> StepPlan:
        return StepPlan(step.name, "images", self.images, basis="hours not known: they are the function's")

    def _queries(self, step: Step) -> StepPlan:
        listed = 0 if self.matches is None else self.matches.queries
        basis = "slice" if self.dump_share == 1.0 else f"{self.dump_share:.1%} of the dump; hours not known"
        exact = Range(listed, listed, listed if self.dump_share == 1.0 else step.settings.limit)
        return StepPlan(step.name, "queries", exact, basis=basis)

    def _candidates(self, step: Step) -> StepPlan:
        rows_in, _, reasons = self.sample.funnel.get(PAIRS_STEP, (0, 0, Counter()))
        drops = {reason: count / max(rows_in, 1) for reason, count in reasons.most_common()}
        hours = self._total([found.seconds for found in self.sample.slices]) * (1 / 3600)
        disk = self._total([float(found.candidate_bytes + found.drop_bytes) for found in self.sample.slices])
        return StepPlan(step.name, "candidates", self.candidates, hours, disk, drops)

    def _select(self, step: Step) -> StepPlan:
        if self.selection is None or self.matches is None:
            return self._passing(step)
        seen = max(sum(found.candidates for found in self.sample.slices), 1)
        found, matches = self.selection, self.matches
        spread = Range(
            *(each / max(self.candidates.mid, 1) for each in (self.candidates.low, 1.0, self.candidates.high))
        )
        pairs = found.pairs
        self.rows = Range(
            pairs.low * min(1.0, spread.low), pairs.mid, min(pairs.high * max(1.0, spread.high), self.candidates.high)
        )
        drops = {
            "no_match": 1 - matches.matched / seen,
            "duplicate_pair or other text": matches.lost / seen,
            "not_drawn": max(0.0, 1 - pairs.mid / max(found.pool, 1)) * (matches.matched - matches.lost) / seen,
        }
        urls, texts = len(np.unique(matches.url_hash)), max(len(matches.url_hash), 1)
        self.images = self.rows * (urls / texts)
        self.of_web = 1.0 - float(matches.has_bytes.mean()) if len(matches.has_bytes) else 1.0
        disk = self.candidates * (_MATCH_BYTES * matches.matched / seen) + self.rows * _SELECTED_BYTES
        hours = (self.candidates * (SELECT_S / 3600)).widened(_RATE)
        return StepPlan(step.name, "pairs", self.rows, hours, disk, drops, "slice; hours: docs/scale.md")

    def _fetch(self, step: Step) -> StepPlan:
        known = self.assumptions
        # Images that lie in the inputs are there; the others are as the web is.
        share = self.of_web * known.success_share + (1 - self.of_web)
        tried = self.images
        self.download = (tried * (self.of_web * known.success_share * known.served_bytes)).widened(_SIZE)
        hours = (tried * (1 / known.images_per_second / 3600)).widened(_WEB)
        self._pass_on(share, spread=1.0 + 0.4 * self.of_web)
        disk = (self.images * self._stored(step)).widened(_SIZE)
        return StepPlan(
            step.name, "images", self.images, hours, disk, {"not fetched": 1 - share}, "assumptions, docs/scale.md"
        )

    def _stored(self, step: Step) -> float:
        if self.assumptions.stored_bytes is not None:
            return self.assumptions.stored_bytes
        size: int = step.settings.image.size
        return min(float(self.assumptions.served_bytes), _BYTES_PER_PIXEL * size * size)

    def _pass_on(self, share: float, *, spread: float) -> None:
        """Let a share of images and pairs through; the share may be off by a factor, but never above all."""
        self.images = self._shared(self.images, share, spread)
        self.rows = self._shared(self.rows, share, spread)

    @staticmethod
    def _shared(rows: Range, share: float, spread: float) -> Range:
        return Range(rows.low * share / spread, rows.mid * share, rows.high * min(1.0, share * spread))

    def _dedup(self, step: Step) -> StepPlan:
        hours = (self.images * (DEDUP_S / 3600)).widened(_RATE)
        drops = {}
        if step.settings.duplicates != "keep":
            self._pass_on(self.assumptions.kept_share, spread=1.2)
            drops = {"duplicates": 1 - self.assumptions.kept_share}
        disk = (self.images * self._stored_of_recipe()).widened(_SIZE)
        return StepPlan(step.name, "images", self.images, hours, disk, drops, "assumptions, docs/scale.md")

    def _stored_of_recipe(self) -> float:
        fetch = next((step for step in self.recipe.steps if step.stage == "fetch"), None)
        return 0.0 if fetch is None else self._stored(fetch)

    def _shard(self, step: Step) -> StepPlan:
        hours = (self.images * (SHARD_S / 3600)).widened(_RATE)
        disk = (self.images * self._stored_of_recipe()).widened(_SIZE)
        return StepPlan(step.name, "samples", self.images, hours, disk, basis="docs/scale.md")

    def _card(self, step: Step) -> StepPlan:
        hours = (self.images * (CARD_S / 3600)).widened(_RATE)
        return StepPlan(step.name, "samples", self.images, hours, basis="docs/scale.md")

    def _passing(self, step: Step) -> StepPlan:
        return StepPlan(step.name, "pairs", self.rows, basis="taken to pass everything on")

    def _prices(self, steps: list[StepPlan]) -> dict[str, Range]:
        known = self.assumptions
        hours, disk = (sum((getattr(step, name) for step in steps), ZERO) for name in ("core_hours", "disk"))
        priced = {
            "cores": hours * known.price_per_core_hour,
            "disk, a month": disk * (known.price_per_gb_month / 1e9),
            "download": self.download * (known.price_per_gb_download / 1e9),
        }
        return {name: cost for name, cost in priced.items() if cost.mid}

    def _say_unknown(self) -> None:
        if self.of_web > 0 and any(step.stage == "fetch" for step in self.recipe.steps):
            self.unknown.append(
                "How many images can be fetched, and how fast, only the web tells: "
                f"{self.assumptions.success_share:.0%} and the rate are assumptions "
                "(--assume success_share=…, images_per_second=…)."
            )
        if not self.is_exact:
            self.unknown.append(
                "Pairs and images that repeat across files are not seen in a slice: the true numbers after select and "
                "dedup are rather lower."
            )
        if self.selection is not None and self.scales.max(initial=1.0) > self.selection.cap:
            self.unknown.append(
                f"A match in the slice stands for more pairs than the cap of {self.selection.cap:,}: queries that the "
                "slice does not show would add to the pairs; read more with --assume slice_bytes=…."
            )
