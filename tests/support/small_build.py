"""A whole build of a few pictures from tables, without Beam: about a second, every kind of work file in it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.wiki_dump import write_dump

from openwit.pipeline.build import build
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.recipe import Recipe

WORDS = ["red kite", "grey heron", "wren", "oak"]


def make_recipe(folder: Path) -> Recipe:
    """Write two tables of pictures and a dump to a folder; return a recipe of every stage that reads them."""
    for number in range(2):
        rows = []
        for n in range(12):
            # The second table repeats two pictures of the first, re-encoded.
            shown, form = (n, "PNG") if number and n < 2 else (number * 12 + n, "JPEG")
            texts = [f"A {WORDS[n % 4]} in the field", f"photo {number * 12 + n} of an {WORDS[(n + 3) % 4]}"]
            image = picture(shown, (64, 56), form)
            rows.append({"image": image, "texts": texts, "split": "val" if n % 6 == 0 else "train"})
        rows.append({"image": b"not an image", "texts": ["a wren"], "split": "train"})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"birds-{number}.parquet")
    (folder / "queries.txt").write_text("\n".join(WORDS))
    dump = write_dump(folder, WORDS)
    queries = {"wikipedia": [str(dump)], "tables": [str(folder / "queries.txt")], "min_count": 2}
    return Recipe.parse(
        {
            "name": "birds",
            "steps": [
                {"queries": queries},
                {"candidates": {"inputs": [str(folder / "birds-*.parquet")]}},
                {"select": {"cap": 6, "oversample": 1.5}},
                {"fetch": {"image": {"size": 48}, "chunk": 12}},
                {"dedup": {}},
                {"redraw": {}},
                {"shard": {"samples": 8}},
                {"card": {"examples": 2}},
            ],
        },
        "recipe",
    )


def run(recipe: Recipe, workdir: Path, **keywords: object) -> None:
    """Build the recipe, or resume."""
    build(recipe, workdir, Job(SerialEngine()), **keywords)
