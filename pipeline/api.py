"""Expose the dataset builder as Python functions, each of which makes the job that it runs as; see `openwit`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openwit.schemas.common.parts import refuse_unsupported_system, require_part
from openwit.schemas.common.storage.store_path import as_path

if TYPE_CHECKING:
    from openwit.pipeline.build import BuildResult, StepResult
    from openwit.pipeline.dataset.removal_journal import Journal
    from openwit.pipeline.dataset.removal_list import RemovalList
    from openwit.pipeline.execution.runners import WorkerCount
    from openwit.pipeline.execution.stage import Job, StageManifest
    from openwit.pipeline.matching.match_tables import MatchReport
    from openwit.pipeline.recipe import Recipe
    from openwit.pipeline.rehydration.lockfile import LockNotes
    from openwit.pipeline.rehydration.run import Rehydrated
    from openwit.pipeline.stages.base import Location
    from openwit.pipeline.text.matching.settings import MatchMode

ShowProgress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is finished, and how much there is."""


def build(
    recipe: Recipe | str | Path,
    workdir: str | Path,
    *,
    overrides: Sequence[str] = (),
    dataset_url: str | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    cluster: str | None = None,
    beam_flags: Sequence[str] = (),
    replace: bool = False,
    retry_failed: bool = False,
    on_step: Callable[[StepResult], None] | None = None,
) -> BuildResult:
    """Build a dataset below a folder, or at a URL. A second call does nothing; after an interruption it resumes.

    Args:
        recipe: a recipe, or the path of one in YAML.
        workdir: folder of the build: `stages/NAME` for each step, `dataset` for the result.
        overrides: `NAME.key=value` for a recipe that is read from a path, as `--set` takes them.
        dataset_url: where the dataset is written instead of `workdir`/dataset, as s3://bucket/name.
        runner: local (processes of this machine), ray, or a Beam runner: beam (in this process), portable, flink,
            spark or dataflow.
        workers: worker processes of the runners local and beam; auto for one per core (beam: for none).
        cluster: address of the cluster of the runners ray, flink, spark and portable.
        beam_flags: flags of the Beam runner.
        replace: rebuild what other settings or inputs made in `workdir`.
        retry_failed: retry images whose download failed for a transient reason.
        on_step: called with the result of each step as soon as it is finished.

    Raises:
        MissingPartError: openwit[build] is not installed.
        RecipeError: the recipe is wrong, or `workdir` holds another recipe's build and `replace` is off.
        OpenWITError: bad input.
    """
    job = _job("openwit.build", runner, workers, beam_flags, cluster=cluster, replace=replace)
    from openwit.pipeline.build import build as run_build
    from openwit.pipeline.recipe import load_recipe

    loaded = load_recipe(Path(recipe), overrides) if isinstance(recipe, str | Path) else recipe
    with closing(job.engine):
        return run_build(
            loaded, as_path(workdir), job, retry_failed=retry_failed, dataset_url=dataset_url, on_step=on_step
        )


def run_stage(
    stage: str,
    out: str | Path,
    *,
    inputs: Mapping[str, Location | Sequence[Location]] | None = None,
    settings: Mapping[str, Any] | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    cluster: str | None = None,
    beam_flags: Sequence[str] = (),
    replace: bool = False,
) -> StageManifest:
    """Run one stage on files; return its manifest, whose `funnel` counts rows in, rows out and dropped rows.

    Example: run_stage("select", "out", inputs={"candidates": "pool", "queries": "queries"}, settings={"cap": 100})

    Args:
        stage: short name of the stage (`openwit.pipeline.stages` lists them), or the dotted name of its class.
        out: folder to write. Nothing is done if it holds this stage, complete, with the same settings and inputs.
        inputs: port of the stage to a folder, file or URL, or to several.
        settings: as in a recipe; defaults for the rest.
        runner: local (processes of this machine), ray, or a Beam runner: beam (in this process), portable, flink,
            spark or dataflow.
        workers: worker processes of the runners local and beam; auto for one per core (beam: for none).
        cluster: address of the cluster of the runners ray, flink, spark and portable.
        beam_flags: flags of the Beam runner.
        replace: rebuild what other settings or inputs made in `out`.

    Raises:
        MissingPartError: openwit[build] is not installed.
        RecipeError: there is no such stage, or a setting is wrong.
        OpenWITError: an input is missing or of the wrong kind, or `out` holds something else.
    """
    job = _job(f'openwit.run_stage("{stage}")', runner, workers, beam_flags, cluster=cluster, replace=replace)
    from openwit.pipeline.stages import stage_named
    from openwit.schemas.common.settings import parse_settings

    found = stage_named(stage)
    parsed = parse_settings(dict(settings or {}), found.settings, stage)
    with closing(job.engine):
        return found.run(job, parsed, inputs or {}, as_path(out)).manifest


def match(
    tables: str | Path | Sequence[str | Path],
    queries: str | Path,
    out: str | Path,
    *,
    match: MatchMode = "words",
    columns: Mapping[str, Any] | None = None,
    form: str = "parquet",
    counts: str | Path | None = None,
    earlier_counts: str | Path | None = None,
    workers: int | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
) -> MatchReport:
    """Find the queries in the texts of tables, without a build; write one row per row of the tables, in their order.

    Example: openwit.match("captions.parquet", "metadata.json", "matches.parquet", match="metaclip")

    Args:
        tables: Parquet, CSV, TSV or JSON lines; paths, globs or URLs.
        queries: the query list: a file with a query a line or a column `query`, MetaCLIP's metadata.json, or what the
            stage queries wrote. The position of a query is its id.
        out: file to write: table, row, key, query_ids.
        match: words or metaclip.
        columns: names of columns, as `candidates.columns` takes them: {"text": ["title"], "key": "uid"}.
        form: parquet or jsonl.
        counts: file for the number of texts that match each query, as MetaCLIP keeps it: .json or .npy.
        earlier_counts: such a file of other tables, to which these are added.
        workers: threads; one per core by default.
        on_rows: called with the number of rows that are done.

    Raises:
        MissingPartError: openwit[build] is not installed.
        OpenWITError: bad input.
    """
    require_part("build", "openwit.match")
    from openwit.pipeline.matching.match_tables import match_tables
    from openwit.pipeline.readers.tables.settings import TableColumns
    from openwit.schemas.common.settings import parse_settings

    listed = [tables] if isinstance(tables, str | Path) else list(tables)
    return match_tables(
        [str(name) for name in listed],
        queries,
        out,
        mode=match,
        columns=parse_settings(dict(columns or {}), TableColumns, "columns"),
        form=form,
        counts=counts,
        earlier_counts=earlier_counts,
        threads=workers,
        on_rows=on_rows,
    )


def lock(dataset: str | Path, out: str | Path, *, pages: bool = False) -> LockNotes:
    """Write what is needed to fetch a dataset again: URLs, texts, checksums and perceptual hashes, and no picture.

    Args:
        dataset: folder or URL.
        out: lockfile to write, as demo.lock.parquet; its queries and checksums are written beside it.
        pages: record the page of each text, too.

    Returns:
        What the lockfile says of the dataset: `samples`, `pairs`, `without_url`, `cap` and more.

    Raises:
        MissingPartError: openwit[build] is not installed.
        DataError: there is no dataset, or it was changed, or names an image URL twice.
        RecipeError: `out` is a file that is no lockfile.
    """
    refuse_unsupported_system()
    require_part("build", "openwit.lock")
    from openwit.pipeline.rehydration.lock_dataset import lock_dataset

    return lock_dataset(dataset, as_path(out), pages=pages)


def rehydrate(
    lockfile: str | Path,
    out: str | Path,
    *,
    candidates: str | Path | None = None,
    rounds: int = 10,
    work: str | Path | None = None,
    overrides: Sequence[str] = (),
    runner: str = "local",
    workers: WorkerCount = "auto",
    cluster: str | None = None,
    beam_flags: Sequence[str] = (),
    replace: bool = False,
    on_step: Callable[[str, StageManifest], None] | None = None,
) -> Rehydrated:
    """Fetch a locked dataset again, verify each image, and refill its queries. A second call resumes.

    Args:
        lockfile: that `lock` wrote, with its queries beside it.
        out: folder of the new dataset.
        candidates: what queries are refilled from: the folder of the build, or of its candidates, or a table.
        rounds: maximum number of rounds of refilling, from 1.
        work: folder of the steps; by default `out` with .work at its end.
        overrides: `fetch.KEY=VALUE`, `shard.…` and `candidates.…`, which differ from the locked recipe.
        runner: local (processes of this machine), ray, or a Beam runner: beam (in this process), portable, flink,
            spark or dataflow.
        workers: worker processes of the runners local and beam; auto for one per core (beam: for none).
        cluster: address of the cluster of the runners ray, flink, spark and portable.
        beam_flags: flags of the Beam runner.
        replace: write a dataset again that was fetched without candidates, with fewer rounds or other settings; what
            needs no change is kept.
        on_step: called with name and manifest of each step that was run.

    Returns:
        Number of samples by status, and what was refilled.

    Raises:
        MissingPartError: openwit[build] is not installed.
        RecipeError: a setting is wrong, or `out` holds another dataset and `replace` is off.
        OpenWITError: bad input.
    """
    job = _job("openwit.rehydrate", runner, workers, beam_flags, cluster=cluster, replace=replace)
    from openwit.pipeline.rehydration.lockfile import load_lock
    from openwit.pipeline.rehydration.run import Rehydration
    from openwit.schemas.common.errors import RecipeError

    if rounds < 1:
        raise RecipeError(f"rounds is {rounds}: give 1 or more")
    target = as_path(out).absolute()
    folder = target.with_name(f"{target.name}.work") if work is None else as_path(work).absolute()
    with closing(job.engine):
        return Rehydration(
            load_lock(as_path(lockfile)),
            target,
            folder,
            job,
            candidates=None if candidates is None else str(candidates),
            sets=overrides,
            rounds=rounds,
            on_step=on_step or (lambda _name, _manifest: None),
        ).run()


def remove(
    dataset: str | Path,
    what: RemovalList | str | Path | Iterable[str],
    *,
    dry_run: bool = False,
    show_progress: ShowProgress = lambda _what, _done, _of: None,
) -> Journal:
    """Remove images from a finished dataset: by URL, by hash of their bytes, or by domain and its subdomains.

    Args:
        dataset: folder or URL.
        what: the path of a list, or the entries themselves.
        dry_run: change nothing.
        show_progress: called as the shards are read and written.

    Returns:
        The plan: `gone()` lists the samples that were removed, or would be.

    Raises:
        MissingPartError: openwit[build] is not installed; it is needed to write the card again.
        DataError: the list or the dataset cannot be read.
        OpenWITError: a shard is damaged, the disk is full, or the store cannot be written. The same call resumes.
    """
    job = _job("openwit.remove", "local", 1)
    from openwit.pipeline.dataset import remove as removal
    from openwit.pipeline.dataset.removal_list import RemovalList, load_removal_list, parse_removal_list
    from openwit.pipeline.dataset.store import open_store
    from openwit.pipeline.stages.card import JSON, Card
    from openwit.pipeline.stages.card.settings import CardSettings
    from openwit.schemas.common.settings import parse_settings

    if isinstance(what, str | Path):
        wanted = load_removal_list(Path(what))
    elif isinstance(what, RemovalList):
        wanted = what
    else:
        text = "\n".join(what)
        wanted = parse_removal_list(text, hashlib.sha256(text.encode()).hexdigest(), "the list of what to remove")
    place = open_store(str(dataset))
    plan = removal.plan_removal(place, wanted, card=_card_settings(place), progress=show_progress)
    if plan.gone() and not dry_run:
        settings = parse_settings(plan.card or {}, CardSettings, JSON)

        def renew_card() -> None:
            Card().run(job, settings, {"dataset": str(dataset)}, as_path(dataset))

        removal.remove(place, wanted, plan, renew_card, show_progress)
    return plan


def _job(
    needed_by: str,
    runner: str,
    workers: WorkerCount,
    flags: Sequence[str] = (),
    *,
    cluster: str | None = None,
    replace: bool = False,
) -> Job:
    refuse_unsupported_system()
    require_part("build", needed_by)
    from openwit.pipeline.execution.runners import make_engine
    from openwit.pipeline.execution.stage import Job

    with _beam_silent():
        engine = make_engine(runner, workers, flags, cluster=cluster)
    return Job(engine, replace=replace)


@contextmanager
def _beam_silent() -> Iterator[None]:
    """Keep what Beam logs while it is imported from the root logger, which would print it and set up a handler."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _card_settings(place: Any) -> dict[str, object] | None:
    """Return the settings of a dataset's card, as far as this release knows them; None if it has no card."""
    from openwit.pipeline.stages.card.settings import CardSettings

    try:
        made_of = json.loads(place.read("card.json"))["made_of"]
        settings = made_of.get("settings", made_of.get("card", {}))
        return {name: value for name, value in settings.items() if name in CardSettings.model_fields}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError):
        return {}
