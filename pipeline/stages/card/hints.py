"""Find figures of a card that ask for action, and say what could be done."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from openwit.pipeline.stages.card.downloads import GONE, REFUSED, UNREACHABLE
from openwit.pipeline.stages.card.figures import percent
from openwit.pipeline.stages.meanings import name_of
from openwit.schemas.manifest import DatasetManifest

_FEW = 100
"""Below this number of rows a share says little."""
_EXPECTED = frozenset({"no_match", "not_drawn", "not_drawn_again"})
"""Reasons that drop most rows of any build: they are what the step is for."""


class Hint(NamedTuple):
    """A figure that asks for action: the section that shows it, what it is, and what could be done."""

    section: str
    figure: str
    action: str


def hints(facts: Mapping[str, Any], manifest: DatasetManifest) -> list[Hint]:
    """Return the hints of a dataset, in the order of the card's sections."""
    return [hint for find in _FINDERS for hint in find(facts, manifest)]


def _losses(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    for step in facts["funnel"]:
        for reason, n in step["reasons"].items():
            counted = step["unit"] in ("pairs", "images") and reason not in _EXPECTED
            if counted and step["rows_in"] >= _FEW and 2 * n > step["rows_in"]:
                yield Hint(
                    "funnel",
                    f"{step['stage']} dropped {percent(n, step['rows_in'])} of its {step['unit']} for one reason: "
                    f"{name_of(reason)}.",
                    "Look at the examples of dropped pairs. If they should have stayed, change the setting behind it; "
                    "if not, an earlier filter saves the work.",
                )


def _matches(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    for step in facts["funnel"]:
        n = step["reasons"].get("no_match", 0)
        if step["rows_in"] >= _FEW and 10 * n > 9 * step["rows_in"]:
            yield Hint(
                "funnel",
                f"{percent(n, step['rows_in'])} of the pairs match no query.",
                "Is the query list of the language of the texts, and long enough? queries.min_count and queries.limit "
                "set its length.",
            )


def _balance(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    queries = facts["queries"]
    if not queries or not facts["cap"] or queries["matches"]["before"] < _FEW:
        return
    before, drawn = queries["matches"]["before"], queries["matches"]["drawn"]
    if drawn < 0.9 * before:
        return
    why = (
        f"only {queries['limited']:,} of the {queries['with_pairs']:,} queries with pairs have more than t = "
        f"{facts['cap']:,}"
        if queries["limited"]
        else f"no query has more than t = {facts['cap']:,} pairs"
    )
    lower = queries["lower_cap"]
    action = (
        f"With cap: {lower['cap']:,} the balance would limit {lower['limited']:,} queries, and draw "
        f"{percent(lower['drawn'], before)} of the matches."
        if lower and lower["cap"] < facts["cap"]
        else "More candidates fill the head; with so few pairs a balance has little to do."
    )
    yield Hint(
        "balance",
        f"The balance changed little: {percent(drawn, before)} of all matches were drawn, since {why}.",
        action,
    )


def _downloads(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    urls = facts["downloads"].get("urls", 0)
    if urls < _FEW:
        return
    by_class = {entry["class"]: entry["n"] for entry in facts["downloads"]["classes"]}
    for name, limit, figure, action in (
        (
            GONE,
            0.15,
            "of the image URLs are gone",
            "Links rot: take a newer crawl, or more candidates (select.oversample) to make up for them.",
        ),
        (
            UNREACHABLE,
            0.1,
            "of the image URLs could not be reached or broke off",
            "Build again with --retry-failed; if it stays so, lower download.concurrency or raise timeout_s.",
        ),
        (
            REFUSED,
            0.1,
            "of the image URLs were refused by their servers",
            "Name yourself in download.user_agent, and ask each host less often (download.per_host, host_interval_s).",
        ),
    ):
        n = by_class.get(name, 0)
        if n > limit * urls:
            yield Hint("sites", f"{percent(n, urls)} {figure}.", action)


def _sites(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    hosts = facts["hosts"]
    if hosts["n"] > 4 and hosts["images"] >= _FEW and 4 * hosts["top"][0]["n"] > hosts["images"]:
        first = hosts["top"][0]
        yield Hint(
            "sites",
            f"{percent(first['n'], hosts['images'])} of the images are of one site, {first['label']}.",
            "What a model learns from it is that site's style and watermark: consider the blocklist, or a lower cap.",
        )


def _evaluation(facts: Mapping[str, Any], manifest: DatasetManifest) -> Iterator[Hint]:
    settings = manifest.recipe.get(manifest.step_of("dedup"))
    if settings is not None and not settings.get("exclude") and facts["images"]["n"] >= _FEW:
        yield Hint(
            "duplicates",
            "No evaluation set was named, so copies of its images may be in this dataset.",
            "Name the sets that a model will be evaluated on in dedup.exclude.",
        )


def _rights(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    texts, none = facts["licences"]["texts"], facts["licences"]["none_stated"]
    if texts >= _FEW and none > 0.95 * texts:
        yield Hint(
            "rights",
            f"For {percent(none, texts)} of the texts no licence was stated.",
            "Before you hand on the images, ask whether you may; a list of their addresses is often what may be "
            "published.",
        )


def _personal(facts: Mapping[str, Any], _manifest: DatasetManifest) -> Iterator[Hint]:
    n = facts["risks"]["texts_with"].get("mail", 0)
    if n:
        yield Hint(
            "risks",
            f"{n:,} text{'' if n == 1 else 's'} hold{'s' if n == 1 else ''} what looks like an e-mail address.",
            "A text filter of your own (filters.custom) drops them before anything is fetched.",
        )


_FINDERS: tuple[Callable[[Mapping[str, Any], DatasetManifest], Iterator[Hint]], ...] = (
    _losses, _matches, _balance, _downloads, _sites, _evaluation, _rights, _personal,
)  # fmt: skip
