"""`wit-train index` and `wit-train search`: an index and its recall; the nearest as a table or a picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.printable import printable
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.evaluation.contact_sheet import draw_results
from openwit.training.evaluation.search.find import Found, Searchable, search
from openwit.training.evaluation.search.pictures import pictures_of


def check_query(text: str | None, image: Path | None) -> None:
    """Refuse a search by nothing, by both, or by an empty text.

    Raises:
        RecipeError: it is one of these.
    """
    if (text is None) == (image is None):
        raise RecipeError("search by either --text or --image")
    if text is not None and not text.strip():
        raise RecipeError("--text is empty")


def model_of(searchable: Searchable, given: Path | None) -> Path:
    """Return the model to embed the query with: what is given, else the one that the embeddings name.

    Raises:
        RecipeError: they name none.
    """
    if given is not None:
        return given
    if not searchable.vectors.model_path:
        raise RecipeError(f"{searchable.where} does not say which model made it: give it with --model")
    return Path(searchable.vectors.model_path)


def run_search(
    searchable: Searchable,
    load: Callable[[], LoadedModel],
    *,
    console: Console,
    text: str | None,
    image: Path | None,
    k: int,
    contact_sheet: Path | None,
    out: Path | None,
) -> list[Found]:
    """Search, print the table, write the files."""
    found = search(searchable, load(), text=text, image=image, k=k)
    shown = f"{text!r}" if text is not None else str(image)
    how = (
        "exactly"
        if searchable.index is None
        else f"by an index of recall {100 * searchable.index.about['recall']:.1f}%"
    )
    title = f"{printable(shown)} among {len(searchable.vectors):,} {searchable.vectors.of}, searched {how}"
    console.print(_table(found, escape(title)))
    if out is not None:
        rows = [
            {"score": each.score, "number": each.number, "key": each.key, "url": each.url, "caption": each.caption}
            for each in found
        ]
        record: dict[str, Any] = {
            "text": text,
            "image": None if image is None else str(image),
            "of": searchable.vectors.of,
        }
        record |= {"model": searchable.vectors.model, "exact": searchable.index is None, "nearest": rows}
        atomic_write(out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        console.print(f"wrote {out}", markup=False, soft_wrap=True)
    if contact_sheet is not None:
        pictures, why = pictures_of(searchable.vectors.source, found)
        labels = [(f"{each.score:.3f}", each.caption or each.key) for each in found]
        query = None if image is None else image.read_bytes()
        draw_results(contact_sheet, pictures, labels, title=f"Nearest to {shown}", subtitle=title, query=query)
        missing = sum(picture is None for picture in pictures)
        note = f" ({missing} of {len(pictures)} images are not shown: {why})" if missing else ""
        console.print(f"wrote {contact_sheet}{note}", markup=False, soft_wrap=True)
    return found


def _table(found: list[Found], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("score", justify="right", no_wrap=True)
    for heading in ("key", "caption", "url"):
        table.add_column(heading, overflow="fold")
    for each in found:
        cells = (each.key, each.caption, each.url or "")
        table.add_row(f"{each.score:.4f}", *(escape(cell) for cell in map(printable, cells)))
    return table
