"""Work on data that exists, as Python functions: dedup, decontaminate, filter, reshard, merge; see `openwit`.

Each writes a finished dataset to a folder or URL, with its work folder OUT.work beside it. A second call does nothing;
after an interruption it resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage.store_path import as_path

if TYPE_CHECKING:
    from openwit.pipeline.build import BuildResult
    from openwit.pipeline.execution.runners import WorkerCount
    from openwit.pipeline.existing import Wanted

Inputs = str | Path | Sequence[str | Path]
Changes = Mapping[str, Mapping[str, Any]]


def dedup(
    inputs: Inputs,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    changes: Changes | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    replace: bool = False,
) -> BuildResult:
    """Drop duplicate images of datasets, tars, tables with images or folders.

    Args:
        inputs: datasets of ours (folders or URLs), or what `candidates.inputs` takes if it holds the images.
        out: folder or URL of the new dataset.
        settings: of the stage dedup.
        changes: of other steps, by name: {"shard": {"samples": 5000}}.
        runner, workers: as `openwit.build` takes them.
        replace: rebuild what other settings or inputs made.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.existing import Wanted

    wanted = Wanted("dedup", dedup=dict(settings or {}), changes=changes or {})
    return _run("openwit.dedup", wanted, inputs, out, runner, workers, replace)


def decontaminate(
    inputs: Inputs,
    out: str | Path | None,
    against: Inputs,
    *,
    report: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    changes: Changes | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    replace: bool = False,
) -> dict[str, int]:
    """Drop the images that evaluation images show too, and report every pair of them.

    Args:
        inputs, changes, runner, workers, replace: as `dedup` takes them.
        out: folder or URL of the new dataset; None for the report only.
        against: evaluation images: folders, tars, Parquet files, datasets.
        report: file of `openwit.schemas.tables.overlap.OVERLAP`; OUT.overlap.parquet by default.
        settings: of the stage dedup, such as {"exclude_distance": 4}; duplicates within the dataset are kept.

    Returns:
        Number of `evaluation_images`, of those that `overlap`, of `samples` that show them, and of `pairs`.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.api import _job
    from openwit.pipeline.existing import Wanted
    from openwit.pipeline.existing_run import report_overlap

    if out is None and report is None:
        raise RecipeError("name the file of the report where no dataset is written")
    dedup = {"duplicates": "keep", **(settings or {}), "exclude": _names(against)}
    wanted = Wanted("decontaminate", dedup=dedup, changes=changes or {})
    job = _job("openwit.decontaminate", runner, workers, replace=replace)
    with closing(job.engine):
        return report_overlap(_names(inputs), wanted, out, report, job).counts


def filter_samples(
    inputs: Inputs,
    out: str | Path,
    *,
    where: Sequence[str] = (),
    keep: str | Path | None = None,
    texts: Mapping[str, Any] | None = None,
    languages: Sequence[str] = (),
    images: Sequence[Any] = (),
    changes: Changes | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    replace: bool = False,
) -> BuildResult:
    """Keep the samples of which conditions hold, and which filters pass on.

    Args:
        inputs, out, changes, runner, workers, replace: as `dedup` takes them.
        where: conditions on columns, all of which must hold: "width >= 256", "language in en,de".
        keep: list of uids: .npy, .parquet or .txt.
        texts: settings of text filters, as `candidates.filters` takes them.
        languages: that texts must be in; identified where they are not known.
        images: filters of your own, as `fetch.image.filters` takes them.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.existing import Wanted

    wanted = Wanted(
        "filter",
        where=where,
        keep=None if keep is None else str(keep),
        candidates=text_settings(texts or {}, languages),
        image={"filters": list(images)} if images else {},
        changes=changes or {},
    )
    return _run("openwit.filter_samples", wanted, inputs, out, runner, workers, replace)


def text_settings(texts: Mapping[str, Any], languages: Sequence[str]) -> dict[str, Any]:
    """Return settings of candidates for text filters on every text, and languages; {} for none."""
    found: dict[str, Any] = {}
    if texts:
        found["filters"] = {"apply_to": "all", **texts}
    if languages:
        found["language"] = {"languages": list(languages)}
    return found


def reshard(
    inputs: Inputs,
    out: str | Path,
    *,
    keep: str | Path | None = None,
    files: Mapping[str, Any] | None = None,
    changes: Changes | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    replace: bool = False,
) -> BuildResult:
    """Write samples to shards of another size or order, all or those of a list.

    Args:
        inputs, out, changes, runner, workers, replace: as `dedup` takes them.
        keep: list of uids: .npy, .parquet or .txt.
        files: samples or bytes of a shard, order (input, shuffled), seed, keys (input, number).

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.existing import Wanted

    wanted = Wanted("reshard", keep=None if keep is None else str(keep), files=files or {}, changes=changes or {})
    return _run("openwit.reshard", wanted, inputs, out, runner, workers, replace)


def merge(
    inputs: Inputs,
    out: str | Path,
    *,
    duplicates: str = "drop",
    without: Sequence[str] = (),
    files: Mapping[str, Any] | None = None,
    changes: Changes | None = None,
    runner: str = "local",
    workers: WorkerCount = "auto",
    replace: bool = False,
) -> BuildResult:
    """Join datasets; samples that several have are there once.

    Args:
        inputs, out, changes, runner, workers, replace: as `dedup` takes them.
        duplicates: drop or keep samples that an earlier input has, by uid, URL or sha256.
        without: kept columns that are left out.
        files: as `reshard` takes it.

    Raises:
        OpenWITError: bad input; `out` holds something else.
    """
    from openwit.pipeline.existing import Wanted

    wanted = Wanted("merge", duplicates=duplicates, without=without, files=files or {}, changes=changes or {})
    return _run("openwit.merge", wanted, inputs, out, runner, workers, replace)


def _run(
    name: str,
    wanted: Wanted,
    inputs: Inputs,
    out: str | Path,
    runner: str,
    workers: WorkerCount,
    replace: bool,
) -> BuildResult:
    from openwit.pipeline.api import _job
    from openwit.pipeline.existing_run import run_existing

    job = _job(name, runner, workers, replace=replace)
    with closing(job.engine):
        return run_existing(_names(inputs), wanted, as_path(out), job).build


def _names(inputs: Inputs) -> list[str]:
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return [str(name) for name in listed]
