"""`python -m openwit.workflows.photos`: serve real pictures on loopback, fetch them and build a dataset."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from openwit.schemas.common.command import user_errors
from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.workflows.photos.server import Pages, loopback_web
from openwit.workflows.photos.sources import crawl_with_images, frequent_words, table_of_photos, write_queries

RECIPE = Path(__file__).with_name("recipe.yaml")
_ALT = re.compile(rb"(?i)\b(?:alt|title)\s*=\s*[\"']([^\"']{3,200})")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Builds a dataset from real pictures over a loopback web. "
    "Example: python -m openwit.workflows.photos table photos.parquet --out out/photos",
)

Out = Annotated[Path, typer.Option(help="Folder for the inputs and the build.")]
# The port is part of every URL, so a build can only be resumed with the same one.
Port = Annotated[int, typer.Option(help="Port on loopback; it is part of every URL.", min=1, max=65535)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a key of the recipe; repeatable.")]


@app.command("table")
def table_command(
    photos: Annotated[Path, typer.Argument(help="Parquet file with the columns jpeg and title.")],
    out: Out = Path("out/photos"),
    port: Port = 8766,
    sets: Sets = None,
) -> None:
    """Serve the photographs of a table under URLs and build a dataset of URLs and titles.

    Example: python -m openwit.workflows.photos table photos.parquet --out out/photos
    """

    def prepare(bound: int) -> tuple[Path, Pages, list[str]]:
        table = out / "input.parquet"
        pages = table_of_photos(photos, table, bound)
        return table, pages, [text or "" for text in pq.read_table(table).column("text").to_pylist()]

    _build(prepare, out, port, sets or [])


@app.command("crawl")
def crawl_command(
    warc: Annotated[Path, typer.Argument(help="WARC file with pages and their images.")],
    out: Out = Path("out/crawl-with-images"),
    port: Port = 8766,
    sets: Sets = None,
) -> None:
    """Move a crawl to this machine: read its pages, serve its images, and build a dataset.

    Example: python -m openwit.workflows.photos crawl example-with-images.warc.gz --out out/crawl-with-images
    """

    def prepare(bound: int) -> tuple[Path, Pages, list[str]]:
        moved = out / "input.warc.gz"
        pages, bodies = crawl_with_images(warc, moved, bound)
        return moved, pages, [text.decode("utf-8", "replace") for body in bodies for text in _ALT.findall(body)]

    _build(prepare, out, port, sets or [])


def _build(prepare: Callable[[int], tuple[Path, Pages, list[str]]], out: Path, port: int, sets: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        with loopback_web(port) as web:
            inputs, pages, texts = prepare(web.port)
            web.serve(pages)
            words = frequent_words(texts)
            write_queries(out / "queries.txt", words)
            print(f"{len(pages):,} pictures at http://*.localhost:{web.port}/, {len(words):,} queries", flush=True)
            paths = [f"candidates.inputs=[{inputs}]", f"queries.tables=[{out / 'queries.txt'}]"]
            flags = [flag for chosen in (*paths, *sets) for flag in ("--set", chosen)]
            command = ["build", str(RECIPE), "--workdir", str(out / "build"), *flags]
            done = subprocess.run([sys.executable, "-m", "openwit.pipeline", *command], check=False)
    except OSError as error:
        raise StorageError(f"port {port} or folder {out} cannot be used: {error.strerror or error}") from error
    if done.returncode:
        raise OpenWITError(f"`wit build` ended with exit code {done.returncode}: its own words stand above")


def main() -> None:
    """Run a command; bad input ends with one sentence and exit code 2."""
    with user_errors("photos"):
        app()


if __name__ == "__main__":
    main()
