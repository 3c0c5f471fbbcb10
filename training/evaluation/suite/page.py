"""Draw a suite's page: one self-contained HTML file, models side by side with intervals on a common scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from openwit.training.evaluation.suite.table import DONE, Row


@dataclass(frozen=True)
class Bar:
    """One model's value of a metric.

    Attributes:
        model: its name.
        value, interval: in words.
        left, width, mark: bounds of the interval and place of the value, percent of the scale.
        verdict: best, overlaps (its interval meets the best one's), below, or alone.
        note: what was left out.
    """

    model: str
    value: str
    interval: str
    left: float
    width: float
    mark: float
    verdict: str
    note: str


@dataclass(frozen=True)
class Comparison:
    """One metric of all models; `chance` and `chance_mark` are of the scale, None without a chance level."""

    metric: str
    bars: list[Bar]
    chance: str
    chance_mark: float | None


def page(title: str, rows: Sequence[Row]) -> str:
    """Return the page."""
    done = [row for row in rows if row.status == DONE]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in done:
        groups.setdefault((row.cell.data.name, row.cell.label), []).append(row)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(text).render(
        title=title,
        models=list(dict.fromkeys(row.cell.model.title for row in rows)),
        groups=[(*names, _comparisons(found)) for names, found in groups.items()],
        missing=[row for row in rows if row.status != DONE],
        done=len(done),
        total=len(rows),
    )


def _comparisons(rows: Sequence[Row]) -> list[Comparison]:
    metrics = dict.fromkeys(name for row in rows for name in row.record["metrics"])
    found = []
    for metric in metrics:
        figures = {row.cell.model.title: row.record["metrics"].get(metric) for row in rows}
        notes = {row.cell.model.title: _note(row) for row in rows}
        found.append(_comparison(metric, {name: each for name, each in figures.items() if each}, notes))
    return found


def _comparison(metric: str, figures: dict[str, dict[str, Any]], notes: dict[str, str]) -> Comparison:
    values = [bound for each in figures.values() for bound in (*_bounds(each), each["value"], each["chance"] or 0.0)]
    low, high = min(0.0, *values), max(1.0, *values)
    best = max(figures.values(), key=lambda each: float(each["value"]))
    shares = low == 0 and high == 1
    bars = []
    for name, each in figures.items():
        start, stop = _bounds(each)
        verdict = "alone" if len(figures) == 1 else "best" if each is best else _verdict(each, best)
        bars.append(
            Bar(
                name,
                _shown(each["value"], shares),
                "" if each["low"] is None else f"{_shown(start, shares)} to {_shown(stop, shares)}",
                _place(start, low, high),
                max(0.3, _place(stop, low, high) - _place(start, low, high)),
                _place(each["value"], low, high),
                verdict,
                notes[name],
            )
        )
    chance = next((each["chance"] for each in figures.values() if each["chance"] is not None), None)
    return Comparison(
        metric,
        bars,
        "" if chance is None else _shown(chance, shares),
        None if chance is None else _place(chance, low, high),
    )


def _bounds(figure: dict[str, Any]) -> tuple[float, float]:
    value = float(figure["value"])
    return tuple(value if figure[key] is None else float(figure[key]) for key in ("low", "high"))  # type: ignore[return-value]


def _verdict(figure: dict[str, Any], best: dict[str, Any]) -> str:
    if figure["low"] is None or best["low"] is None:
        return "unknown"
    return "overlaps" if figure["high"] >= best["low"] else "below"


def _place(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)


def _shown(value: float, shares: bool) -> str:
    return f"{100 * value:.1f}%" if shares else f"{value:.4g}"


def _note(row: Row) -> str:
    record = row.record
    parts = [f"{record['images']:,} images"]
    if record["unreadable"]:
        parts.append(f"{len(record['unreadable']):,} unreadable")
    parts += [f"{count:,} {reason}" for reason, count in record["left_out"].items()]
    return ", ".join(parts)
