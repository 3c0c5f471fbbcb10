"""A small dataset whose images lie on a loopback server, and its lock."""

import pyarrow as pa
import pyarrow.parquet as pq
from support.picture_web import Web, settings, spread_over_hosts
from support.serial_engine import SerialEngine

from openwit.pipeline.build import build
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.recipe import Recipe

WORDS = ["red kite", "grey heron", "wren", "oak"]
POOL, CAP = 60, 8


def make_web() -> Web:
    """A server of pictures."""
    return Web().start()


def make_locked_build(folder, web, **select):
    """Build a dataset of pairs whose pool is larger than it, in `folder`/out; return its recipe."""
    urls = spread_over_hosts(web, POOL)
    rows = [{"url": url, "text": f"a {WORDS[n % 4]} by an {WORDS[(n // 4) % 4]} {n}"} for n, url in enumerate(urls)]
    rows += [{"url": url, "text": f"again an {WORDS[n % 3]} {n}"} for n, url in enumerate(urls[:12])]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pool.parquet")
    (folder / "queries.txt").write_text("\n".join(WORDS))
    fetch = settings(chunk=12).model_dump(mode="json")
    recipe = Recipe.parse(
        {
            "name": "birds",
            "steps": [
                {"queries": {"tables": [str(folder / "queries.txt")]}},
                {"candidates": {"inputs": [str(folder / "pool.parquet")]}},
                {"select": {"cap": CAP, "seed": 3, **select}},
                {"fetch": fetch},
                {"dedup": {}},
                *([{"redraw": {}}] if select.get("oversample") else []),
                {"shard": {"samples": 8}},
            ],
        },
        "recipe",
    )
    build(recipe, folder / "out", Job(SerialEngine()))
    return recipe
