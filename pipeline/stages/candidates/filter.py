"""Clean and filter found pairs: in the same way for pages, WAT records, tables and your own readers."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from openwit.pipeline.common.custom_filters import CustomFilter, custom_filters
from openwit.pipeline.common.demands import DEMAND_REASONS
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import host_of
from openwit.pipeline.stages.candidates.pair import TABLE, Drop, Pair, pair_id
from openwit.pipeline.stages.candidates.settings import SPLIT_NAME, CandidateSettings
from openwit.pipeline.stages.candidates.splits import split_chooser
from openwit.pipeline.text.clean import clean_text, fix_mojibake
from openwit.pipeline.text.filters import TEXT_REASONS, TextContext, build_asked_filters, build_filters, drop_reason
from openwit.pipeline.text.language import LanguageIdentifier, keeps

NO_TEXT = Reason("no_text", "no text describes it")
TEXT_NOT_WANTED = Reason("text_source_not_wanted", "a text from a place the recipe leaves out")
BAD_URL = Reason("bad_url", "the address is no http(s) URL")
BAD_SPLIT = Reason("bad_split", "the table names no valid split")
LANGUAGE = Reason("language", "in a language that is not wanted, or in none that could be detected")
PAIR_REASONS = (NO_TEXT, TEXT_NOT_WANTED, BAD_URL, BAD_SPLIT, *TEXT_REASONS, LANGUAGE, *DEMAND_REASONS)
"""Reasons for which a found pair is dropped, in the order of the checks; custom filters come last."""

CUSTOM_FILTERS = "candidates.filters.custom"

_SPLIT_NAME = re.compile(SPLIT_NAME)


def load_custom_filters(settings: CandidateSettings) -> list[CustomFilter]:
    """Load the text filters that the recipe names.

    Raises:
        RecipeError: one cannot be loaded or called.
    """
    return custom_filters(settings.filters.custom, key=CUSTOM_FILTERS, taken=PAIR_REASONS)


class PairFilter:
    """Clean, filter and complete pairs."""

    def __init__(self, settings: CandidateSettings) -> None:
        """Load word lists, custom filters and the language model.

        Raises:
            OpenWITError: a list cannot be read, a language is unknown, or a custom filter cannot be used.
        """
        self.settings = settings
        apply_to = settings.filters.apply_to
        every, asked = build_filters(settings.filters), build_asked_filters(settings.filters)
        self._page_filters = asked if apply_to == "none" else every
        self._table_filters = every if apply_to == "all" else asked
        self._custom = load_custom_filters(settings)
        for custom in self._custom:
            custom.setup()
        self._identifier = LanguageIdentifier(settings.language) if settings.language.languages else None
        self._split_of = split_chooser(settings.held_out, settings.held_out_share)

    def split(self, found: Sequence[Pair]) -> tuple[list[Pair], list[Drop]]:
        """Return the candidates, completed, and the drops; every found pair is in exactly one of the two."""
        dropped: list[Drop] = []
        passed: list[Pair] = []
        for pair in found:
            pair.text = clean_text(fix_mojibake(pair.text) if self.settings.ftfy else pair.text)
            reason = self._reason(pair)
            if reason:
                dropped.append(Drop(pair, reason))
            elif pair.problem is not None:
                dropped.append(Drop(pair, *pair.problem))
            else:
                passed.append(pair)
        kept: list[Pair] = []
        for pair, wanted in zip(passed, self._identify(passed), strict=True):
            if not wanted:
                dropped.append(Drop(pair, LANGUAGE, f"{pair.language} {pair.language_score:.2f}"))
            elif reason := self._custom_reason(pair):
                dropped.append(Drop(pair, reason))
            else:
                pair.split = pair.split or self._split_of(pair.url)
                pair.pair_id = pair_id(pair.url, pair.text)
                kept.append(pair)
        return kept, dropped

    def _reason(self, pair: Pair) -> str | None:
        if not pair.text and self.settings.texts_required:
            return NO_TEXT
        if pair.image_source != TABLE and pair.text_source not in self.settings.texts:
            return TEXT_NOT_WANTED
        if not pair.has_bytes and not host_of(pair.url):
            return BAD_URL
        if pair.split is not None and not _SPLIT_NAME.fullmatch(pair.split):
            return BAD_SPLIT
        filters = self._table_filters if pair.image_source == TABLE else self._page_filters
        return drop_reason(pair.text, filters, _context(pair)) if filters and pair.text else None

    def _custom_reason(self, pair: Pair) -> str | None:
        if not self._custom:
            return None
        context = _context(pair)
        about = f"the text {pair.text!r:.80} of {pair.url:.200}"
        for custom in self._custom:
            reason = custom.drop_reason(pair.text, context, about)
            if reason is not None:
                return reason
        return None

    def _identify(self, pairs: Sequence[Pair]) -> list[bool]:
        """Fill in the language of each pair; return whether each is in a wanted language."""
        if self._identifier is None:
            return [True] * len(pairs)
        if not all(pair.text for pair in pairs):
            # Without a text there is no language: such a pair is kept whatever languages are.
            found_of = iter(self._identify([pair for pair in pairs if pair.text]))
            return [next(found_of) if pair.text else True for pair in pairs]
        contexts = list(_contexts(pairs)) if self.settings.language.page_context else None
        found = self._identifier.identify([pair.text for pair in pairs], contexts)
        # A table that declares the language of a text decides over detection.
        found = [(pair.language, 1.0) if pair.language else each for pair, each in zip(pairs, found, strict=True)]
        for pair, (language, score) in zip(pairs, found, strict=True):
            pair.language, pair.language_score = language, score
        return keeps(found, self.settings.language)


def _context(pair: Pair) -> TextContext:
    return TextContext(
        url=pair.url,
        text_source=pair.text_source,
        image_source=pair.image_source,
        archive=pair.archive,
        page_url=pair.page_url,
        page_title=pair.page_title,
        license=pair.license,
        language=pair.language,
    )


def _contexts(pairs: Sequence[Pair]) -> Iterator[str | None]:
    """Yield for each pair its page's other texts: the title and the texts of the page's pairs in this batch."""
    for page, group in groupby(pairs, key=lambda pair: (pair.page_url, pair.archive, pair.record_offset)):
        members = list(group)
        if page[0] is None:
            yield from [None] * len(members)
            continue
        texts = dict.fromkeys([clean_text(members[0].page_title), *(pair.text for pair in members)])
        context = ". ".join(text for text in texts if text)
        yield from [context] * len(members)
