"""`wit-train datasets`: the known evaluation datasets below a folder, with counts against published ones."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openwit.schemas.common.atomic import atomic_write
from openwit.training.evaluation.registry.find import Inventory, take_inventory


def show_datasets(root: Path, *, console: Console, out: Path | None) -> Inventory:
    """Find, print the table, the warnings and what is missing, write the file."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    inventory = take_inventory(root)
    if inventory.found:
        console.print(datasets_table(inventory))
    else:
        say(f"{root} holds none of the known datasets")
    for warning in (warning for each in inventory.found for warning in each.warnings):
        say(f"warning: {warning}")
    for path in inventory.unreadable:
        say(f"{path} has the name of a known dataset, but holds none of its layouts that can be read")
    paper = [each.name for each in inventory.missing if each.paper]
    others = [each.name for each in inventory.missing if not each.paper]
    for label, names in (("the paper's", paper), ("CLIP_benchmark's", others)):
        if names:
            say(f"not here, of {label}: {', '.join(names)}")
    if out is not None:
        atomic_write(out, json.dumps(inventory_record(inventory), indent=1, ensure_ascii=False) + "\n")
        say(f"wrote {out}")
    return inventory


def datasets_table(inventory: Inventory) -> Table:
    """Return what was found as a table."""
    table = Table(title_justify="left")
    for heading in ("dataset", "layout", "images", "metric", "tests"):
        table.add_column(heading, overflow="fold")
    for each in inventory.found:
        known = each.located.known
        counts = ", ".join(f"{split} {images:,}" for split, images in each.counts.items())
        table.add_row(known.name, each.located.layout, counts, str(known.metric), ", ".join(known.tests))
    return table


def inventory_record(inventory: Inventory) -> dict[str, Any]:
    """Return what was found as JSON data, with the published sizes and their sources."""
    return {
        "found": [
            {
                "name": each.located.known.name,
                "title": each.located.known.title,
                "paper": each.located.known.paper,
                "layout": each.located.layout,
                "path": str(each.located.path),
                "images": each.counts,
                "published": {
                    split: [
                        {"images": images, "source": source}
                        for images, source in each.located.known.published(split).items()
                    ]
                    for split in each.counts
                },
                "classes": each.located.known.classes,
                "metric": each.located.known.metric,
                "tests": each.located.known.tests,
                "warnings": each.warnings,
            }
            for each in inventory.found
        ],
        "unreadable": [str(path) for path in inventory.unreadable],
        "missing": [{"name": each.name, "title": each.title, "paper": each.paper} for each in inventory.missing],
    }
