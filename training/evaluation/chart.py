"""Draw a chart as an SVG file: points with intervals, lines and levels; the same numbers give the same bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 168, 44, 54
COLOURS = ("#1f5fa8", "#b5482a", "#2c7a4b", "#7a4fa3", "#8a6d1c", "#4d4d4d")


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: shown at the right.
        points: (x, y) or (x, y, low, high).
        joined: whether a line leads through them.
        marked: whether each is a dot.
        dashed: whether the line is dashed.
    """

    name: str
    points: Sequence[Sequence[float]]
    joined: bool = True
    marked: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: what it shows.
        ticks: (value, text).
        low, high: ends.
        scale: maps values to places along the axis, such as a logarithm.
    """

    title: str
    ticks: Sequence[tuple[float, str]]
    low: float
    high: float
    scale: Callable[[float], float] = field(default=float)

    def share(self, value: float) -> float:
        """Return the place of a value, 0 at the low end and 1 at the high one; beyond an end, that end."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(min(max(value, self.low), self.high)) - low) / (high - low)


def chart_svg(title: str, across: Axis, up: Axis, series: Sequence[Series]) -> str:
    """Return an SVG document."""

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + across.share(x) * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up.share(y) * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_frame(title, across, up, place)]
    for number, each in enumerate(series):
        parts.append(_drawn(each, COLOURS[number % len(COLOURS)], place))
        y = _TOP + 12 + 20 * number
        x = WIDTH - _RIGHT + 14
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if each.dashed else ""
        if each.joined:
            parts.append(f'<path d="M{x} {y}h18" stroke="{colour}" stroke-width="2"{dash}/>')
        if each.marked:
            parts.append(f'<circle cx="{x + 9}" cy="{y}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 24}" y="{y + 4}">{escape(each.name)}</text>')
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#222"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}" {style}><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _frame(title: str, across: Axis, up: Axis, place: Callable[[float, float], tuple[float, float]]) -> str:
    parts = [f'<text x="{_LEFT}" y="24" font-size="14" font-weight="600">{escape(title)}</text>']
    for value, text in up.ticks:
        y = place(across.low, value)[1]
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in across.ticks:
        x = place(value, up.low)[0]
        parts.append(f'<path d="M{x:.1f} {HEIGHT - _BOTTOM}v5" stroke="#888"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 20}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<path d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}" stroke="#888"/>')
    middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across.title)}</text>')
    centre = _TOP + (HEIGHT - _TOP - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(18 {centre:.1f}) rotate(-90)" text-anchor="middle">{escape(up.title)}</text>'
    )
    return "".join(parts)


def _drawn(series: Series, colour: str, place: Callable[[float, float], tuple[float, float]]) -> str:
    parts = []
    places = [place(point[0], point[1]) for point in series.points]
    if series.joined and places:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for point, (x, y) in zip(series.points, places, strict=True):
        if len(point) == 4:
            low, high = place(point[0], point[2])[1], place(point[0], point[3])[1]
            parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="1.5"/>')
        if series.marked:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return "".join(parts)
