"""Compile what a build compiles, before the build: for an image, whose containers would each take half a minute.

    NUMBA_CACHE_DIR=/opt/openwit/numba python -m openwit.pipeline.check.compile_ahead

It builds a sample with every stage in this process. numba keeps machine code by processor: an image for other machines
than the one that builds it sets NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, for this command and for its workers.
"""

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openwit.pipeline.build import build
from openwit.pipeline.check.rehearse import rehearsed
from openwit.pipeline.check.sample import write_sample
from openwit.pipeline.execution.pool import InProcessPool
from openwit.pipeline.execution.pool_engine import PoolEngine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.recipe import Recipe

_TABLES = 2


def compile_ahead() -> tuple[int, int]:
    """Compile; return how many compiled forms of functions were made, and how many were there."""
    for match in ("words", "metaclip"):
        steps: list[Any] = [
            {"queries": {"tables": ["-"]}},
            {"candidates": {"inputs": ["-"]}},
            {"select": {"cap": 6, "oversample": 1.5, "match": match}},
            {"fetch": {}},
            {"dedup": {"exclude": ["-"]}},
            {"redraw": {}},
            {"shard": {}},
        ]
        with tempfile.TemporaryDirectory(prefix="openwit-compile-") as folder:
            sample = write_sample(Path(folder), _TABLES)
            recipe, _ = rehearsed(Recipe.parse({"name": "sample", "steps": steps}, "sample"), sample)
            build(recipe, Path(folder, "build"), Job(PoolEngine(InProcessPool())))
    functions = list(_compiled_functions())
    made = sum(sum(each.stats.cache_misses.values()) for each in functions)
    return made, sum(sum(each.stats.cache_hits.values()) for each in functions)


def _compiled_functions() -> Iterator[Any]:
    from numba.core.dispatcher import Dispatcher

    seen = set()
    for name, module in list(sys.modules.items()):
        if name.startswith("openwit.") and module is not None:
            for value in list(vars(module).values()):
                if isinstance(value, Dispatcher) and id(value) not in seen:
                    seen.add(id(value))
                    yield value


def main() -> None:
    """Compile and say how much."""
    logging.getLogger("openwit").setLevel(logging.ERROR)
    made, found = compile_ahead()
    print(f"{made} compiled, {found} found compiled")


if __name__ == "__main__":
    main()
