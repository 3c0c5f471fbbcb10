"""Fetch a locked dataset again, verify it, and refill its queries from candidates by the same draw."""

import filecmp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openwit.pipeline.execution.files import STAGE_MANIFEST
from openwit.pipeline.execution.stage import CLAIM, Job, StageManifest
from openwit.pipeline.rehydration.locked import Locked, LockSettings
from openwit.pipeline.rehydration.lockfile import Lock
from openwit.pipeline.rehydration.refill import DeadPairs, count_short
from openwit.pipeline.rehydration.stages import Rehydrate, Untried, UntriedSettings
from openwit.pipeline.rehydration.verify import Verify
from openwit.pipeline.stages import stage_named
from openwit.pipeline.stages.base import BuildContext, DatasetInfo, Stage
from openwit.pipeline.stages.select.dead import Dead, write_dead
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.settings import apply_override, parse_settings
from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.tables.queries import MATCH_NOTE, QUERIES

_STEPS = ("candidates", "fetch", "shard")


@dataclass(frozen=True)
class Rehydrated:
    """What became of a lock.

    Attributes:
        statuses: number of samples by status.
        asked, refilled: images that rounds of refilling asked for, and that were taken.
        untried: images that are drawn and were not asked for, since the rounds were used up.
        rounds: of refilling.
        short: queries that draw fewer pairs than the cap; None if nothing was refilled.
        samples, pairs: of the new dataset.
    """

    statuses: dict[str, int]
    asked: int
    refilled: int
    untried: int
    rounds: int
    short: int | None
    samples: int
    pairs: int


OnStep = Callable[[str, StageManifest], None]


@dataclass
class Rehydration:
    """One run; a second with the same arguments resumes.

    Args:
        lock: a checked lockfile.
        out: folder of the new dataset.
        work: folder of the steps.
        candidates: folder of candidates or of a selection, or a table; None to refill nothing.
        sets: `fetch.KEY=VALUE`, `shard.…`, `candidates.…`: settings that differ from those of the lock's recipe.
        rounds: maximum number of rounds of refilling.
        on_step: called with name and manifest of each step that was run.
    """

    lock: Lock
    out: Path
    work: Path
    job: Job
    candidates: str | None = None
    sets: Sequence[str] = ()
    rounds: int = 10
    on_step: OnStep = lambda _name, _manifest: None
    _changes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> Rehydrated:
        """Rehydrate.

        Raises:
            OpenWITError: bad input; a setting is wrong; the folder holds something else.
        """
        self._read_sets()
        if self.candidates is not None and self.lock.notes.cap is None:
            raise RecipeError(f"{self.lock.path} is of a dataset that no query drew: there is nothing to refill")
        self._refuse_other_out()
        fetch, shard = self._settings("fetch"), self._settings("shard")
        pool = self._pool()  # before anything is fetched: it may not be there
        lock = LockSettings(lock=str(as_path(self.lock.path).absolute()))
        locked = self._step("locked", Locked(self.lock), lock, {})
        fetched = [self._step("fetch", stage_named("fetch"), fetch, {"selected": locked})]
        verified = self._step("verify", Verify(self.lock), lock, {"images": fetched[0]})
        final, asked = None, 0
        chosen: dict[str, Path] = {}
        if pool:
            final, left, refills, asked = self._refill(verified, pool)
            fetched += refills
            chosen = {"selected": final, "untried": left}
        joined = self._step(
            "rehydrate", Rehydrate(self.lock), lock, {"images": fetched, "checked": verified, **chosen}
        )
        done = StageManifest.load_any(joined, [])
        info = DatasetInfo(self.lock.notes.dataset, self.lock.notes.description)
        steps = {name: {"stage": stage.identifier()} for name, stage in self._own.items()}
        build = BuildContext("shard", info, steps=steps)
        made = stage_named("shard").run(self.job, shard, {"survivors": joined}, self.out, build=build)
        self.on_step("shard", made.manifest)
        lines = {step.unit: step.rows_out for step in made.manifest.funnel}
        short = None if final is None else count_short(final, self.lock.notes.cap or 0)
        return Rehydrated(
            done.extra["statuses"], asked, done.counters["refilled"], done.counters["untried"], len(fetched) - 1,
            short, lines["samples"], lines["pairs"],
        )  # fmt: skip

    @property
    def _own(self) -> Mapping[str, Stage[Any]]:
        return {"locked": Locked(), "verify": Verify(), "rehydrate": Rehydrate()}

    def _step(self, name: str, stage: Stage[Any], settings: Any, inputs: Mapping[str, Any]) -> Path:
        folder = self.work / name
        done = stage.run(self.job, settings, inputs, folder, build=BuildContext(name))
        if done.executed:
            self.on_step(name, done.manifest)
        return folder

    def _read_sets(self) -> None:
        raw: dict[str, Any] = {}
        for override in self.sets:
            if override.partition(".")[0] not in _STEPS:
                raise RecipeError(f"--set {override}: give one of {', '.join(f'{step}.KEY=VALUE' for step in _STEPS)}")
            apply_override(raw, override)
        self._changes = raw

    def _settings(self, stage: str) -> Any:
        """Return the settings of a stage: those of the lock's recipe, with changes."""
        _, settings = self.lock.stage(stage)
        changed = _merged(settings, self._changes.get(stage, {}))
        return parse_settings(changed, stage_named(stage).settings, "wit rehydrate", prefix=stage)

    def _refuse_other_out(self) -> None:
        """Refuse an output folder with other files, before anything is fetched."""
        for folder, mark in ((self.out, CLAIM), (self.work, f"locked/{CLAIM}")):
            if folder.exists() and not folder.is_dir():
                raise StorageError(f"{folder} is a file: give a folder")
            if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
                raise StorageError(f"{folder} is not empty and was not made by `wit rehydrate`: choose another folder")

    def _refill(self, verified: Path, pool: list[Path]) -> tuple[Path, Path, list[Path], int]:
        """Select again and again among the pairs that are not known to be dead, until all that is drawn is there.

        Returns:
            The last selection, its pairs that were not asked for, what each round fetched, and the images asked for.
        """
        queries = self._queries()
        first = self._first(pool, queries)
        dead = DeadPairs(self.lock, verified, first)
        fetched: list[Path] = []
        asked = 0
        for number in range(1, self.rounds + 2):
            name = f"refill-{number}"
            listed = self._list(f"{name}-dead", dead.dead())
            inputs = {"candidates": pool, "queries": queries, "reuse": first, "dead": listed}
            final = self._step(f"{name}-select", stage_named("select"), self._select(again=True), inputs)
            tried = UntriedSettings(tried=str(self._list(f"{name}-tried", dead.tried())))
            left = self._step(f"{name}-untried", Untried(), tried, {"selected": final})
            pairs = StageManifest.load_any(left, []).extra["pairs"]
            if not pairs or number > self.rounds:
                break
            fetched.append(
                self._step(f"{name}-fetch", stage_named("fetch"), self._settings("fetch"), {"selected": left})
            )
            asked += sum(s.rows_in for s in StageManifest.load(fetched[-1], "fetch").funnel if s.unit == "images")
            dead.add_round(left, fetched[-1])
        return final, left, fetched, asked

    def _select(self, *, again: bool) -> Any:
        """Return the settings of the draw: the lock's cap; a draw that is made again has no surplus."""
        _, settings = self.lock.stage("select")
        fixed = {"cap": self.lock.notes.cap, "target_pairs": None, "tail_share": None}
        surplus = {"oversample": 1.0} if again else {}
        return parse_settings({**settings, **fixed, **surplus}, stage_named("select").settings, "the lock's recipe")

    def _list(self, name: str, dead: Dead) -> Path:
        """Write a list of a round, also where an earlier run with other pairs or rounds left one."""
        return _written(self.work / "lists" / f"{name}.parquet", lambda path: write_dead(path, dead))

    def _queries(self) -> Path:
        """Write the lock's queries as a query list; return its path."""
        counts = self.lock.queries
        assert counts is not None, "a lock with a cap has queries"
        columns: dict[str, object] = {name: counts.column(name) for name in ("query_id", "query", "source")}
        empty = dict.fromkeys(("count", "pmi", "views"), [None] * counts.num_rows)
        table, notes = QUERIES.table({**columns, **empty}), {MATCH_NOTE: self._select(again=True).match}
        return _written(self.work / "lists" / "queries.parquet", lambda path: QUERIES.write(path, table, notes=notes))

    def _pool(self) -> list[Path]:
        """Return the folders of candidates: as named, of a build, or read from a table; none to refill nothing."""
        given = "candidates" in self._changes
        if self.candidates is None:
            if given:
                raise RecipeError("--set candidates.… is for a table that --candidates names, and there is none")
            return []
        folder = as_path(self.candidates)
        if given and any((place / STAGE_MANIFEST).exists() for place in (folder, folder / "stages" / "candidates")):
            raise RecipeError(
                f"--set candidates.… is for a table, but the candidates in {folder} were read before: leave it out, "
                "or give --candidates the table"
            )
        if (folder / STAGE_MANIFEST).exists():
            manifest = StageManifest.load_any(folder, ["candidates"])
            if manifest.stage == "candidates":
                return [folder]
            raise DataError(f"{folder} holds the {manifest.stage!r} stage: give the folder of its candidates")
        below = folder / "stages" / "candidates"
        if (below / STAGE_MANIFEST).exists():
            return [below]
        _, settings = self.lock.stage("candidates")
        raw = _merged(settings, {"inputs": [self.candidates], **self._changes.get("candidates", {})})
        read = parse_settings(raw, stage_named("candidates").settings, "wit rehydrate", prefix="candidates")
        return [self._step("candidates", stage_named("candidates"), read, {})]

    def _first(self, pool: list[Path], queries: Path) -> Path:
        """Return the selection that the dataset was built from, made again."""
        return self._step(
            "first-select", stage_named("select"), self._select(again=False), {"candidates": pool, "queries": queries}
        )


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in changes.items():
        held = merged.get(key)
        merged[key] = _merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    return merged


def _written(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a list; the same list stays as it is, with its date, by which a step that was killed knows its input."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"new-{path.name}")
    write(new)
    if path.exists() and filecmp.cmp(new, path, shallow=False):
        new.unlink()
    else:
        new.replace(path)
    return path
