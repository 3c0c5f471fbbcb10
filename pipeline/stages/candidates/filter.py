"""Cleaning and filtering of found pairs: the same for pages, WAT records and tables."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from openwit.pipeline.common.urls import host_of
from openwit.pipeline.stages.candidates.pair import TABLE, Drop, Pair, pair_id
from openwit.pipeline.stages.candidates.settings import SPLIT_NAME, CandidateSettings
from openwit.pipeline.stages.candidates.splits import split_chooser
from openwit.pipeline.text.clean import clean_text
from openwit.pipeline.text.filters import TEXT_REASONS, read_word_list, text_reason
from openwit.pipeline.text.language import LanguageIdentifier, keeps
from openwit.pipeline.text.mojibake import text_fixer

NO_TEXT, LANGUAGE, TEXT_NOT_WANTED = "no_text", "language", "text_source_not_wanted"
BAD_URL, BAD_SPLIT = "bad_url", "bad_split"
PAIR_REASONS = (NO_TEXT, TEXT_NOT_WANTED, BAD_URL, BAD_SPLIT, *TEXT_REASONS, LANGUAGE)
"""Why a found pair is no candidate, in the order in which it is asked."""

_SPLIT_NAME = re.compile(SPLIT_NAME)


class Sieve:
    """Cleans, filters and completes pairs."""

    def __init__(self, settings: CandidateSettings) -> None:
        """Loads word lists and the language model.

        Raises:
            OpenWITError: a list cannot be read, a language is unknown, or ftfy is asked for and missing.
        """
        self.settings = settings
        self._fix: Callable[[str], str] | None = text_fixer() if settings.ftfy else None
        self._adult_words = read_word_list(settings.filters.adult_words)
        self._identifier = LanguageIdentifier(settings.language) if settings.language.languages else None
        self._split_of = split_chooser(settings.held_out, settings.held_out_share)

    def sift(self, found: Sequence[Pair]) -> tuple[list[Pair], list[Drop]]:
        """The candidates among found pairs, completed, and the others; every found pair ends in one of the two."""
        dropped: list[Drop] = []
        passed: list[Pair] = []
        for pair in found:
            pair.text = clean_text(self._fix(pair.text) if self._fix else pair.text)
            reason = self._reason(pair)
            if reason:
                dropped.append(Drop(pair, reason))
            else:
                passed.append(pair)
        kept: list[Pair] = []
        for pair, wanted in zip(passed, self._identify(passed), strict=True):
            if wanted:
                pair.split = pair.split or self._split_of(pair.url)
                pair.pair_id = pair_id(pair.url, pair.text)
                kept.append(pair)
            else:
                dropped.append(Drop(pair, LANGUAGE, f"{pair.language} {pair.language_score:.2f}"))
        return kept, dropped

    def _reason(self, pair: Pair) -> str | None:
        if not pair.text:
            return NO_TEXT
        if pair.text_source != TABLE and pair.text_source not in self.settings.texts:
            return TEXT_NOT_WANTED
        if not pair.has_bytes and not host_of(pair.url):
            return BAD_URL
        if pair.split is not None and not _SPLIT_NAME.fullmatch(pair.split):
            return BAD_SPLIT
        return text_reason(pair.text, self.settings.filters, self._adult_words)

    def _identify(self, pairs: Sequence[Pair]) -> list[bool]:
        """Fills in the language of each pair; says which ones are in a wanted language."""
        if self._identifier is None:
            return [True] * len(pairs)
        contexts = list(_contexts(pairs)) if self.settings.language.page_context else None
        found = self._identifier.identify([pair.text for pair in pairs], contexts)
        for pair, (language, score) in zip(pairs, found, strict=True):
            pair.language, pair.language_score = language, score
        return keeps(found, self.settings.language)


def _contexts(pairs: Sequence[Pair]) -> Iterator[str | None]:
    """For each pair what else its page says: the title and the texts of the page's pairs in this batch."""
    for page, group in groupby(pairs, key=lambda pair: (pair.page_url, pair.archive, pair.record_offset)):
        members = list(group)
        if page[0] is None:
            yield from [None] * len(members)
            continue
        said = dict.fromkeys([clean_text(members[0].page_title), *(pair.text for pair in members)])
        context = ". ".join(text for text in said if text)
        yield from [context] * len(members)
