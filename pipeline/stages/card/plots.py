"""Draw the head and tail curve of a dataset as inline SVG: the same numbers give the same bytes on every machine."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 40
_LINES = {"before": "c-before", "drawn": "c-drawn", "after": "c-after"}

Points = Sequence[Sequence[int]]


def curve_svg(curves: Mapping[str, Points], cap: int | None, title: str) -> Markup:
    """Return pairs per query against its rank, both axes logarithmic; colours and strokes come from the page's style.

    Args:
        curves: for before, drawn and after, [rank, pairs] points by ascending rank.
        cap: drawn as a line if there is one.
        title: read out in place of the picture.
    """
    points = [point for line in curves.values() for point in line]
    last_rank = max([point[0] for point in points], default=1)
    most = max([point[1] for point in points] + ([cap] if cap else []), default=1)
    axes = _Axes(max(1.0, math.log10(max(last_rank, 1))), max(1.0, math.log10(max(most, 1)) * 1.02))
    parts = [_grid(axes)]
    if cap:
        y = axes.y(cap)
        parts.append(f'<path class="c-cap" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        # Below the line at its right end, where the curves are far below it.
        parts.append(
            f'<text x="{WIDTH - _RIGHT}" y="{y - 5:.1f}" text-anchor="end" class="c-capname">t = {cap:,}</text>'
        )
    parts += [f'<path class="{_LINES[name]}" d="{axes.path(line)}"/>' for name, line in curves.items() if line]
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )  # numbers and fixed words only; the title is escaped


class _Axes:
    """Logarithmic axes: decades across and up, from 1."""

    def __init__(self, across: float, up: float) -> None:
        self.across = across
        self.up = up

    def x(self, rank: float) -> float:
        return _LEFT + math.log10(rank) / self.across * (WIDTH - _LEFT - _RIGHT)

    def y(self, pairs: float) -> float:
        return HEIGHT - _BOTTOM - math.log10(pairs) / self.up * (HEIGHT - _BOTTOM - _TOP)

    def path(self, line: Points) -> str:
        places = [f"{self.x(rank):.1f} {self.y(pairs):.1f}" for rank, pairs in line]
        if len(places) == 1:  # a dot, where a line has no length
            places.append(f"{self.x(line[0][0]) + 3:.1f} {self.y(line[0][1]):.1f}")
        return "M" + "L".join(places)


def _grid(axes: _Axes) -> str:
    parts = []
    for decade in range(int(axes.up) + 1):
        y = axes.y(10**decade)
        parts.append(f'<path class="c-grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(10**decade)}</text>')
    for decade in range(int(axes.across) + 1):
        x = axes.x(10**decade)
        parts.append(f'<path class="c-grid" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_short(10**decade)}</text>')
    middle = (WIDTH - _LEFT - _RIGHT) / 2 + _LEFT
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">query, by rank</text>')
    parts.append(f'<text transform="translate(11 {HEIGHT / 2:.1f}) rotate(-90)" text-anchor="middle">pairs</text>')
    return "".join(parts)


def _short(number: int) -> str:
    for size, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number // size}{name}"
    return str(number)
