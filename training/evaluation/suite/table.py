"""Write a suite's results: a table (Parquet), JSON, and a page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.schemas.common.atomic import atomic_path, atomic_write
from openwit.training.evaluation.suite.plan import Cell
from openwit.training.evaluation.suite.settings import SuiteSettings

DONE, FAILED, PENDING = "done", "failed", "pending"

_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("model", "dataset", "measurement", "status", "reason", "metric")],
        *[(name, pa.float64()) for name in ("value", "low", "high", "level")],
        ("interval", pa.string()),
        ("chance", pa.float64()),
        *[(name, pa.int64()) for name in ("images", "unreadable", "left_out")],
        *[(name, pa.string()) for name in ("key", "weights_sha256", "data_sha256", "settings")],
    ]
)


@dataclass(frozen=True)
class Row:
    """A cell and its result.

    Attributes:
        cell: what was to be measured.
        status: done, failed or pending.
        record: the result, as `cells/` has it.
        reason: why there is none.
    """

    cell: Cell
    status: str
    record: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def write_results(settings: SuiteSettings, rows: Sequence[Row], out: Path) -> None:
    """Write results.parquet, results.json and index.html."""
    from openwit.training.evaluation.suite.page import page

    table = pa.Table.from_pylist([line for row in rows for line in _lines(row)], schema=_SCHEMA)
    with atomic_path(out / "results.parquet") as temporary:
        pq.write_table(table, temporary)
    record = {
        "suite": settings.model_dump(mode="json"),
        "cells": [{**_names(row), "reason": row.reason, **row.record} for row in rows],
    }
    atomic_write(out / "results.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    atomic_write(out / "index.html", page(settings.name, rows))


def _names(row: Row) -> dict[str, Any]:
    cell = row.cell
    return {"model": cell.model.title, "dataset": cell.data.name, "measurement": cell.label, "status": row.status}


def _lines(row: Row) -> list[dict[str, Any]]:
    names = {**_names(row), "reason": row.reason}
    if row.status != DONE:
        return [names]
    record = row.record
    weights = record["weights"]
    common = {
        **names,
        "images": record["images"],
        "unreadable": len(record["unreadable"]),
        "left_out": sum(record["left_out"].values()),
        "key": record["key"],
        "weights_sha256": weights.get("checkpoint_sha256") or weights.get("weights_sha256"),
        "data_sha256": record["data"],
        "settings": json.dumps(record["settings"], sort_keys=True),
    }
    return [
        {**common, "metric": name, **{key: each for key, each in figure.items() if each is not None}}
        for name, figure in record["metrics"].items()
    ] or [common]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None if the file is not there, or no such object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
