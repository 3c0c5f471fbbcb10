"""Write the overlap analysis as one page: the table, the paper's figure 17, and the pairs that were found."""

from collections.abc import Sequence
from html import escape

from openwit.schemas.common.printable import printable
from openwit.schemas.common.wording import counted
from openwit.training.evaluation.chart import Axis, Series, chart_svg
from openwit.training.evaluation.overlap.measure import EvaluationSet, Measured, pairs_of
from openwit.training.evaluation.overlap.pictures import TrainingPictures, evenly, thumbnail

_TEXT = 160
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #f6f7f9; margin: 0 auto; max-width: 1080px;
  padding: 28px 20px 56px; } h1 { font-size: 28px; margin: 0 0 8px; } h2 { font-size: 19px; margin: 28px 0 6px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; background: #fff; } th, td { text-align: right;
  padding: 5px 9px; border-bottom: 1px solid #d9dfe6; } th:first-child, td:first-child, th:nth-child(2),
  td:nth-child(2) { text-align: left; overflow-wrap: anywhere; } p { max-width: 78ch; } svg { max-width: 100%;
  height: auto; margin: 12px 0; } .pairs { display: grid; gap: 18px;
  grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); }
.pair { display: grid; grid-template-columns: 1fr 1fr;
  gap: 8px; background: #fff; border: 1px solid #d9dfe6; border-radius: 8px; padding: 10px; font-size: 13px; }
.pair img, .none { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eef1f5; display: block; }
.none { display: grid; place-items: center; color: #526070; text-align: center; } .pair p { grid-column: 1 / -1;
  margin: 0; overflow-wrap: anywhere; } figure { margin: 0; min-width: 0; } figcaption { overflow-wrap: anywhere; }
"""


def page_html(measured: Sequence[Measured], limit: int) -> str:
    """Return a page that needs no other file.

    Args:
        measured: all results.
        limit: most pairs to show per evaluation set.
    """
    sets = list({id(each.evaluation): each.evaluation for each in measured}.values())
    body = [
        "<h1>Overlap of training and evaluation images</h1>",
        "<p>Clean: evaluation images that no training image shows. Overlap: those that one shows. All minus clean is "
        "what overlap adds to the accuracy. p: one-tailed binomial test that overlap is higher than clean, and the "
        "same times the number of sets (Bonferroni). Interval: Clopper and Pearson's, 99.5 %.</p>",
        _table(measured),
        difference_svg(measured),
        gap_svg(measured),
        *(_pairs(each, limit) for each in sets),
    ]
    head = f'<meta charset="utf-8"><title>Overlap</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def difference_svg(measured: Sequence[Measured]) -> str:
    """Return the right panel of the paper's figure 17: accuracy of all minus clean, against the share of overlap."""
    points = [(each, 100 * each.result.share, each.result.difference) for each in measured]
    values = [100 * value for _, _, value in points if value is not None]
    series = _series(measured, [(each, x, None if y is None else (x, 100 * y)) for each, x, y in points])
    return chart_svg(
        "What overlap adds to accuracy", _share_axis(measured), _axis("all - clean, points", values), series
    )


def gap_svg(measured: Sequence[Measured]) -> str:
    """Return the left panel of the paper's figure 17: accuracy on overlap minus clean with its 99.5 % interval."""
    points: list[tuple[Measured, float, Sequence[float] | None]] = []
    values: list[float] = []
    for each in measured:
        found, x = each.result, 100 * each.result.share
        if None in (found.overlap.accuracy, found.clean.accuracy, found.overlap_low, found.overlap_high):
            points.append((each, x, None))
            continue
        bounds = (found.overlap.accuracy, found.overlap_low, found.overlap_high)
        point = [100 * ((value or 0.0) - (found.clean.accuracy or 0.0)) for value in bounds]
        values += point
        points.append((each, x, (x, *point)))
    axis = _axis("overlap - clean, points", values)
    return chart_svg("Accuracy on overlap, 99.5 % intervals", _share_axis(measured), axis, _series(measured, points))


def _series(
    measured: Sequence[Measured], points: Sequence[tuple[Measured, float, Sequence[float] | None]]
) -> list[Series]:
    """Return a series per subject; those that are significant after correction are apart."""
    found = []
    for subject in dict.fromkeys(each.subject for each in measured):
        for significant in (False, True):
            mine = [
                point
                for each, _, point in points
                if each.subject == subject and each.result.significant == significant and point is not None
            ]
            if mine:
                name = f"{subject[-14:]}{', p<.05' if significant else ''}"
                found.append(Series(name, mine, joined=False))
    return found


def _share_axis(measured: Sequence[Measured]) -> Axis:
    most = max(100 * each.result.share for each in measured)
    high = next(value for value in (1, 2, 5, 10, 20, 50, 100) if value >= most)
    ticks = [(high * part / 5, f"{high * part / 5:g}%") for part in range(6)]
    return Axis("share of overlap", ticks, 0.0, float(high))


def _axis(title: str, values: Sequence[float]) -> Axis:
    most = max([abs(value) for value in values], default=1.0)
    high = next(value for value in (0.5, 1, 2, 5, 10, 20, 50, 100) if value >= min(most, 100))
    return Axis(title, [(high * part / 2, f"{high * part / 2:+g}") for part in range(-2, 3)], -high, float(high))


def percent(value: float | None) -> str:
    """Return a share in per cent; a dash for none."""
    return "–" if value is None else f"{100 * value:.2f}%"


def cells(each: Measured) -> list[str]:
    """Return the cells of a result's row; see `HEADINGS`."""
    found = each.result
    interval = "–" if found.overlap_low is None else f"{percent(found.overlap_low)} - {percent(found.overlap_high)}"
    return [
        each.subject,
        each.evaluation.data.title,
        f"{found.all.images:,}",
        f"{found.overlap.images:,} ({percent(found.share)})",
        percent(found.all.accuracy),
        percent(found.clean.accuracy),
        percent(found.overlap.accuracy),
        interval,
        "–" if found.difference is None else f"{100 * found.difference:+.2f}",
        *("–" if value is None else f"{value:.2g}" for value in (found.p_value, found.p_corrected)),
    ]


HEADINGS = (
    "model",
    "data",
    "images",
    "overlap",
    "all",
    "clean",
    "on overlap",
    "99.5% interval",
    "all - clean",
    "p",
    "p corrected",
)


def _table(measured: Sequence[Measured]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    rows = ("".join(f"<td>{escape(printable(cell))}</td>" for cell in cells(each)) for each in measured)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _pairs(each: EvaluationSet, limit: int) -> str:
    pairs = pairs_of(each)
    chosen = evenly(len(pairs), limit)
    reader = TrainingPictures(each.where)
    shown = "".join(_shown(each, *pairs[number], reader) for number in chosen)
    part = (
        f"{len(chosen):,} of {counted(len(pairs), 'pair')}"
        if len(chosen) < len(pairs)
        else counted(len(pairs), "pair")
    )
    about = "the farthest first, evenly chosen; " if len(chosen) < len(pairs) else "the farthest first; "
    return (
        f"<h2>{escape(printable(each.data.title))}: {part}</h2><p>Evaluation image, then training image; {about}"
        f'distance: bits in which their hashes differ.</p><div class="pairs">{shown}</div>'
    )


def _shown(each: EvaluationSet, index: int, number: int, reader: TrainingPictures) -> str:
    row = each.report[int(each.matched.rows[index])]
    pair = row.pairs[number]
    sample = each.data.sample(index)
    label = each.data.classes[sample.label] if sample.label >= 0 else ""
    text = printable(pair.text)
    words = f"{text[:_TEXT]}…" if len(text) > _TEXT else text
    return (
        f'<div class="pair">{_figure(sample.image, f"{sample.key} · {label}")}'
        f"{_figure(reader.image(pair), words)}"
        f"<p>distance {pair.distance}, {escape(pair.variant.replace('_', ' '))} · "
        f"{escape(printable(pair.key or pair.uid))} · {escape(printable(pair.url))}</p></div>"
    )


def _figure(image: bytes | None, caption: str) -> str:
    url = thumbnail(image)
    why = "not here any more" if image is None else "cannot be decoded"
    picture = f'<img src="{url}" alt="">' if url else f'<div class="none">{why}</div>'
    return f"<figure>{picture}<figcaption>{escape(printable(caption))}</figcaption></figure>"
