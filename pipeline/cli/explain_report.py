"""Print what `wit explain` found about an image."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from openwit.pipeline.explain.lookup import DroppedPair, KeptSample, KeptText, Match
from openwit.pipeline.stages.meanings import name_of
from openwit.schemas.common.printable import printable
from openwit.schemas.tables.samples import OWN_NAMES

_QUERIES_SHOWN = 12


def print_explanation(console: Console, kept: Sequence[KeptSample], dropped: Sequence[DroppedPair]) -> None:
    """Print samples with the history of each text, then the dropped pairs in the order of the stages."""
    for sample in kept:
        place = f" as {sample.key} in {sample.shard} ({sample.split})"
        console.print(Text.assemble(("Kept", "bold"), place), highlight=False)
        _line(console, "image", sample.url)
        facts = sample.facts
        size = f"{facts['width']} x {facts['height']}, served as {facts['original_format']} of "
        _line(console, "fetch", f"{size}{facts['original_width']} x {facts['original_height']}")
        _line(console, "sha256", f"{facts['sha256']}  phash {facts['phash']}")
        copies = facts["duplicates"]
        dropped_copies = f"{copies:,} {'duplicate' if copies == 1 else 'duplicates'} of it dropped"
        _line(console, "dedup", dropped_copies if copies else "no duplicate was found")
        for name, value in facts.items():
            if name == "uid" or name not in OWN_NAMES:
                _line(console, name, str(value))
        for text in sample.texts:
            _print_text(console, text)
    for pair in dropped:
        _print_drop(console, pair)


def _print_text(console: Console, text: KeptText) -> None:
    language = f", {text.language}" if text.language else ""
    _line(console, "text", f"{text.text}  ({text.text_source}{language})")
    _line(console, "  pair", text.pair_id)
    if text.of_copy is not None:
        _line(
            console, "  merged", f"from a duplicate image: {text.of_copy or 'its URL is in the stages of the build'}"
        )
    if text.page_url:
        _line(console, "  page", text.page_url)
    _line(console, "  from", f"{text.archive} at {text.record_offset:,}")
    if text.license:
        _line(console, "  licence", text.license)
    _print_matches(console, text.matched)
    if text.drawn_by:
        _line(console, "  drawn by", f"{', '.join(text.drawn_by)}  (priority {text.priority:.3g} of at most 1)")


def _print_drop(console: Console, pair: DroppedPair) -> None:
    where = f" at {pair.stage}: {name_of(pair.reason)}"
    console.print(Text.assemble(("Dropped", "bold"), where), highlight=False)
    if pair.meaning:
        _line(console, "meaning", pair.meaning)
    _line(console, "image", pair.url)
    _line(console, "text", pair.text)
    if pair.pair_id:
        _line(console, "  pair", pair.pair_id)
    if pair.detail:
        _line(console, "detail", pair.detail)
    _print_matches(console, pair.matched)


def _print_matches(console: Console, matched: Sequence[Match]) -> None:
    for match in matched[:_QUERIES_SHOWN]:
        verdict = "drew it" if match.u <= match.threshold else "did not draw it"
        numbers = f"u {match.u:.4g}, threshold {match.threshold:.4g}"
        _line(console, "  query", f"{match.query}: {verdict} ({numbers}; {match.drawn:,} of {match.pool:,} drawn)")
    if len(matched) > _QUERIES_SHOWN:
        _line(console, "", f"and {len(matched) - _QUERIES_SHOWN:,} more queries")


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text(f"  {name:<11}", style="dim").append(printable(value), style="not dim"), soft_wrap=True)
