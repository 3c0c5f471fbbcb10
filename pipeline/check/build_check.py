"""Check a whole recipe for a runner of Beam: nothing of the build runs, and no network is used.

The steps run twice in this process, on a sample of a few made-up pairs and on one four times as large, in a temporary
folder. Each job's graph is built from what the stage hands to its engine, with the names of the real folders; a graph
that grows with the sample is extrapolated to `PLANNED_TASKS`.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from openwit.pipeline.build import DATASET, STAGES, build
from openwit.pipeline.check.engine import PLANNED_TASKS, GraphEngine, JobGraph
from openwit.pipeline.check.places import missing_packages, unknown_to_workers, writes_dataset, wrong_places
from openwit.pipeline.check.rehearse import rehearsed
from openwit.pipeline.check.sample import write_sample
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.pipeline.execution.beam_facts import untyped
from openwit.pipeline.execution.beam_parts import missing_flags
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.recipe import Recipe
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.storage.store_path import as_path

GRAPH_BYTES = 1_000_000
"""Most bytes of a graph; Dataflow takes 10 MB."""
_TABLES = (4, 16)
# Graphs of one job differ by some bytes: they are compressed, and name folders. More than this is growth, and is found
# from 8 bytes a task on, with which a graph reaches `GRAPH_BYTES`.
_NOISE = 100


class CheckedJob(NamedTuple):
    """A job of the build as its runner would get it.

    Attributes:
        step, job: of the recipe, and label.
        transforms, shuffles: of the graph.
        bytes: of the graph with `PLANNED_TASKS` tasks.
        faults: what is wrong; none if it is as it should be.
    """

    step: str
    job: str
    transforms: int
    shuffles: int
    bytes: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class BuildCheck:
    """The result of a check.

    Attributes:
        jobs: in the order in which they run.
        problems: beside jobs, a sentence each.
        notes: what to know or to do before the build.
    """

    jobs: list[CheckedJob]
    problems: list[str]
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems and not any(job.faults for job in self.jobs)


def check_build(recipe: Recipe, workdir: str, engine: BeamEngine, *, dataset: str | None = None) -> BuildCheck:
    """Check the build of a recipe on a runner.

    Args:
        workdir: of the build.
        engine: of the runner; its flags are known to be flags of Beam.
        dataset: where the dataset is written, if not below `workdir`.
    """
    problems = list(missing_flags(engine.name, engine.flags))
    notes = missing_packages(engine.name, recipe, workdir, dataset) + unknown_to_workers(recipe)
    elsewhere = wrong_places(recipe, workdir, dataset) if engine.name != "beam" else []
    if engine.name == "dataflow":
        problems += elsewhere
    elif elsewhere:
        notes.append(
            "folders of this machine must be shared by all workers, unless they run here: "
            + "; ".join(sentence.partition(" is a place")[0] for sentence in elsewhere)
        )
    runs: list[list[JobGraph]] = []
    for tables in _TABLES:
        graphs, replaced, failed = _rehearse(recipe, workdir, engine, tables)
        runs.append(graphs)
        if failed:
            problems.append(failed)
            break
    notes += [f"{name} reads inputs of its own: its jobs were not checked" for name in replaced]
    return BuildCheck(_judge(*runs) if len(runs) == len(_TABLES) else _judge(runs[0], runs[0]), problems, notes)


def _rehearse(recipe: Recipe, workdir: str, engine: BeamEngine, tables: int) -> tuple[list[JobGraph], list[str], str]:
    """Run the steps on a sample; return the graphs, the steps that were replaced, and why it ended early, if so."""
    real, dataset_step = as_path(workdir), writes_dataset(recipe)
    with tempfile.TemporaryDirectory(prefix="openwit-check-") as temporary:
        sample_folder, folder = Path(temporary, "sample"), Path(temporary, "build")
        sample_folder.mkdir()
        sample = write_sample(sample_folder, tables)

        def place(at: Path) -> tuple[Path, str]:
            parts = at.relative_to(folder).parts
            step = parts[1] if parts[0] == STAGES else dataset_step if parts[0] == DATASET else ""
            return real.joinpath(*parts), step

        graphs = GraphEngine(engine.options, sample.payload, place)
        steps, replaced = rehearsed(recipe, sample)
        try:
            with _silent():
                build(steps, folder, Job(graphs))
        except OpenWITError as error:
            return graphs.graphs, replaced, f"the steps ended on a sample, what follows was not checked: {error}"
        return graphs.graphs, replaced, ""


def _judge(small: Sequence[JobGraph], large: Sequence[JobGraph]) -> list[CheckedJob]:
    """Compare the graphs of a sample and of a larger one, and say of each job what is wrong."""
    before = {(graph.step, graph.job): graph for graph in small}
    judged: dict[tuple[str, str], CheckedJob] = {}
    for graph in large:
        first = before.get((graph.step, graph.job), graph)
        grown, added = graph.facts.bytes - first.facts.bytes, graph.tasks - first.tasks
        per_task = grown / added if added > 0 and grown > _NOISE else 0.0
        size = graph.facts.bytes + round(per_task * (PLANNED_TASKS - graph.tasks))
        faults = list(dict.fromkeys([*first.faults, *graph.faults]))
        faults += [f"{each.name} shuffles {each.elements}" for each in untyped(graph.facts)]
        if size > GRAPH_BYTES:
            growth = f", {per_task:,.0f} more with each task" if per_task else ""
            faults.append(f"the graph has more than {GRAPH_BYTES:,} bytes{growth}")
        judged[graph.step, graph.job] = CheckedJob(
            graph.step, graph.job, graph.facts.transforms, len(graph.facts.shuffles), size, tuple(faults)
        )
    return list(judged.values())


@contextmanager
def _silent() -> Iterator[None]:
    """Keep to ourselves what the stages say of the sample."""
    logger = logging.getLogger("openwit")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
