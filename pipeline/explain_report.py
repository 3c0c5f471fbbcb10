"""How `wit explain` prints what is known of an image."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from pipeline.explain import DroppedPair, KeptSample, KeptText

_QUERIES_SHOWN = 12


def print_explanation(console: Console, kept: Sequence[KeptSample], dropped: Sequence[DroppedPair]) -> None:
    """Samples with the lineage of each text, then the pairs that left, in the order of the stages."""
    for sample in kept:
        console.print(f"[bold]Kept[/bold] as {sample.key} in {sample.shard} ({sample.split})", highlight=False)
        _line(console, "image", sample.url)
        facts = sample.facts
        size = f"{facts['width']} x {facts['height']}, served as {facts['original_format']} of "
        _line(console, "size", f"{size}{facts['original_width']} x {facts['original_height']}")
        _line(console, "sha256", f"{facts['sha256']}  phash {facts['phash']}")
        if facts["duplicates"]:
            _line(
                console,
                "stands for",
                f"{facts['duplicates']:,} {'copy' if facts['duplicates'] == 1 else 'copies'} of it",
            )
        for text in sample.texts:
            _print_text(console, text)
    for pair in dropped:
        console.print(f"[bold]Left[/bold] at {pair.stage}: {pair.reason.replace('_', ' ')}", highlight=False)
        _line(console, "image", pair.url)
        _line(console, "text", pair.text)
        if pair.detail:
            _line(console, "because", pair.detail)


def _print_text(console: Console, text: KeptText) -> None:
    language = f", {text.language}" if text.language else ""
    _line(console, "text", f"{text.text}  ({text.text_source}{language})")
    if text.page_url:
        _line(console, "page", text.page_url)
    _line(console, "from", f"{text.archive} at {text.record_offset:,}")
    if text.license:
        _line(console, "licence", text.license)
    shown = [f"{q['query']} ({q['drawn']:,} of {q['pool']:,} drawn)" for q in text.matched[:_QUERIES_SHOWN]]
    more = len(text.matched) - len(shown)
    _line(console, "matches", ", ".join(shown) + (f" and {more:,} more" if more > 0 else ""))
    _line(console, "drawn by", f"{', '.join(text.drawn_by)}  (priority {text.priority:.3g} of at most 1)")


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text(f"  {name:<11}", style="dim").append(value, style="not dim"), soft_wrap=True)
