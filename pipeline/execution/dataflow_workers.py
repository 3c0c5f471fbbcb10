"""State which machines each stage gets on Dataflow; the flag of the same name after `--` overrides any of it."""

from typing import NamedTuple


class Workers(NamedTuple):
    """The workers of a stage's jobs.

    Attributes:
        machine_type: of Compute Engine; Dataflow runs one worker process per vCPU.
        max_num_workers: machines; Dataflow starts fewer where there is less to do.
        disk_size_gb: of each, for copies of the files that a task reads.
        why: what decides.
    """

    machine_type: str
    max_num_workers: int
    disk_size_gb: int
    why: str


WORKERS: dict[str, Workers] = {
    "queries": Workers("n2-highmem-4", 25, 50, "counts of words and bigrams of a part of a dump: 2 GiB a process"),
    "candidates": Workers("n2-standard-4", 250, 50, "CPU; a part of an archive or table at a time"),
    "select": Workers("n2-standard-4", 250, 50, "1.5 GiB a process: the matcher, a file's rows, a bucket sorted"),
    "fetch": Workers("n2-standard-4", 100, 50, "the network; decoding beside it"),
    "dedup": Workers("n2-standard-4", 250, 100, "reads every image once for its checksum"),
    "redraw": Workers("n2-standard-2", 50, 50, "small tables"),
    "shard": Workers("n2-standard-4", 250, 100, "the store; two runs of 64 MB and a block a process"),
    "embed": Workers("n2-standard-4", 250, 50, "CPU: the function, once a process"),
}
"""Workers by stage."""
OTHER = Workers("n2-standard-4", 100, 50, "a stage of your own")

# Beam's default is 12 threads a process, each of which would hold a task of 1.5 GiB.
_THREADS = "--number_of_worker_harness_threads=1"
_EXPERIMENTS = "--experiments=use_runner_v2"


def flags_of_stage(stage: str) -> list[str]:
    """Return Dataflow's flags for the jobs of a stage."""
    workers = WORKERS.get(stage, OTHER)
    return [
        f"--machine_type={workers.machine_type}",
        f"--max_num_workers={workers.max_num_workers}",
        f"--disk_size_gb={workers.disk_size_gb}",
        _THREADS,
        _EXPERIMENTS,
    ]
