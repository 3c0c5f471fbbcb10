"""Texts that say nothing about an image. Each filter is a pure function whose name is the reason it gives.

Filters answer True for a text that is left out. They expect text as `clean_text` returns it.
"""

import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openwit.pipeline.text.boilerplate import BOILERPLATE, BOILERPLATE_PATTERN
from openwit.pipeline.text.settings import TextFilterSettings
from openwit.schemas.common.errors import OpenWITError

_FILE_EXTENSIONS = (
    "jpe?g|jpg_large|png|gif|webp|bmp|tiff?|svg|avif|heic|heif|ico|psd|ai|eps|raw|cr2|nef|arw|dng|"
    "pdf|mp4|mov|avi|webm|docx?|pptx?|html?|php|aspx?"
)
_WITH_EXTENSION = re.compile(rf"[^\s/\\][^/\\\n]{{0,200}}\.(?:{_FILE_EXTENSIONS})", re.IGNORECASE)
_FILE_SIZE = re.compile(r"\s*\(\d+(?:[.,]\d+)? ?[KMG]i?B\)$")
_CAMERA_NAME = re.compile(
    r"(?:img|image|dsc[nf]?|pict?|picture|photo|foto|pxl|mvi|vid|wp|sam|gopr|dji|hpim|cimg|sdc|mg|scan|scanned|"
    r"screen ?shot|screencap|capture|unbenannt|untitled|sans titre|sin t[ií]tulo|whatsapp image|fb img|snapchat|"
    r"received|p|r|l|s)[-_ ]?\(?\d(?:[\d\-_ .:()x]|at|um|à|[ap]m|copy|kopie|edited)*",
    re.IGNORECASE,
)
_HEX_NAME = re.compile(
    r"(?=.*\d)[0-9a-f]{12,}(?:[-_][0-9a-z]+)*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
_UNDERSCORED = re.compile(r"(?=.*\d)(?=.*[_])[\w.\-]+")

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_BARE_DOMAIN = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:com|org|net|info|biz|edu|gov|io|co|tv|me|shop|store|online|site|"
    r"de|fr|es|it|nl|pl|ru|uk|jp|cn|kr|br|mx|us|ca|au|in|se|no|dk|fi|ch|at|be|cz|pt|gr|tr|eu)(?:/\S*)?",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[a-z]{2,}", re.IGNORECASE)

# "© Jane Doe/dpa", "Photo: Jane Doe / Getty Images": who made a picture, not what it shows
_CREDIT_MARK = re.compile(
    r"(?:©|\(c\)|copyright\b|(?:photo(?:graph)?|picture|image|foto|bild|imagen|credit|source|quelle|courtesy)s?"
    r"(?:\s(?:credit|courtesy))?\s*(?::|©|\bby\b))",
    re.IGNORECASE,
)
_CREDIT_WORDS = 7
_CREDIT_SMALL = frozenset({"by", "for", "of", "the", "and", "via", "from", "de", "di", "van", "/"})

_DIGIT = re.compile(r"\d")
# Entries have up to six words; numbers and dashes may stand between them.
_BOILERPLATE_SPACES = 9

_NOT_WORD = re.compile(r"[\W\d_]+")
_NOT_WORD_CHARACTER = re.compile(r"[\W_]+")

# scripts written without spaces: a character says about as much as a short word
_DENSE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_DENSE_WEIGHT = 2


@dataclass(frozen=True)
class WordList:
    """Words and phrases to look for, case-folded."""

    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()


NO_WORDS = WordList()


def read_word_list(path: Path | None) -> WordList:
    """Reads a list with one word or phrase a line (UTF-8; blank lines and lines that start with # do not count).

    Raises:
        OpenWITError: the file is missing or not UTF-8.
    """
    if path is None:
        return NO_WORDS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OpenWITError(f"word list {path} cannot be read as UTF-8 text: {error}") from error
    entries = {_spaced(line).strip() for line in lines if line.strip() and not line.lstrip().startswith("#")} - {""}
    return WordList(
        frozenset(entry for entry in entries if " " not in entry),
        tuple(sorted(f" {entry} " for entry in entries if " " in entry)),
    )


def too_short(text: str, settings: TextFilterSettings) -> bool:
    """Fewer characters or words than the settings ask for."""
    if len(text) >= 2 * settings.min_characters and settings.min_words == 1:
        return False  # nearly all
    dense = len(_DENSE.findall(text))
    if len(text) + dense * (_DENSE_WEIGHT - 1) < settings.min_characters:
        return True
    return not dense and len(text.split()) < settings.min_words


def too_long(text: str, settings: TextFilterSettings) -> bool:
    """More characters than the settings allow."""
    return len(text) > settings.max_characters


def no_letters(text: str, settings: TextFilterSettings) -> bool:  # noqa: ARG001
    """Digits, punctuation and symbols only."""
    return not any(map(str.isalpha, text))


def file_name(text: str, settings: TextFilterSettings) -> bool:
    """The name of a file: with an extension, as a camera or a phone gives it, or a hash."""
    if not settings.file_names:
        return False
    if text.endswith("B)"):
        text = _FILE_SIZE.sub("", text)
    if "." in text[-11:] and _WITH_EXTENSION.fullmatch(text):
        # "Diagram of a cell.svg" has words; "diagram-of-a-cell.svg" and "DSC 0001.jpg" are names
        return text.count(" ") < 3 or any(mark in text for mark in "_\\")
    if _DIGIT.search(text) is None:
        return False
    # of the three only a camera's name may hold spaces
    patterns = (_CAMERA_NAME,) if " " in text else (_CAMERA_NAME, _HEX_NAME, _UNDERSCORED)
    return any(pattern.fullmatch(text) is not None for pattern in patterns)


def url_text(text: str, settings: TextFilterSettings) -> bool:
    """A URL, a bare domain, an e-mail address, or a text of which an address is the larger part."""
    if not settings.urls or "." not in text:
        return False
    if " " not in text and (_BARE_DOMAIN.fullmatch(text) or _EMAIL.fullmatch(text)):
        return True
    in_urls = sum(len(url) for url in _URL.findall(text))
    return 2 * in_urls > len(text)


def boilerplate(text: str, settings: TextFilterSettings) -> bool:
    """One of the frequent texts that say nothing about the image, numbers and punctuation aside."""
    if not settings.boilerplate or len(text) > 60 or text.count(" ") > _BOILERPLATE_SPACES:
        return False
    bare = _bare_words(text)
    return bare in _BARE_BOILERPLATE or BOILERPLATE_PATTERN.fullmatch(bare) is not None


def credit_line(text: str, settings: TextFilterSettings) -> bool:
    """Says who made the picture and nothing else: a mark of credit, then names."""
    if not settings.credit_lines:
        return False
    mark = _CREDIT_MARK.match(text)
    if mark is None:
        return False
    names = text[mark.end() :].split()
    if len(names) > _CREDIT_WORDS:
        return False
    return all(
        name in _CREDIT_SMALL or not name[:1].isalpha() or not name[:1].islower() or "." in name for name in names
    )


def repeated_characters(text: str, settings: TextFilterSettings) -> bool:
    """A long run of one letter or one word. Runs of dots or dashes are typography."""
    if _character_run(settings.max_character_run).search(text):
        return True
    words = text.casefold().split()
    if len(words) - len(set(words)) < settings.max_word_run:
        return False
    run = 1
    for before, word in itertools.pairwise(words):
        run = run + 1 if word == before else 1
        if run > settings.max_word_run:
            return True
    return False


@functools.cache
def _character_run(longest: int) -> re.Pattern[str]:
    return re.compile(rf"([^\W\d_])\1{{{longest}}}")


def adult_word(text: str, words: WordList) -> bool:
    """A whole word or phrase of the user's list, whatever its case."""
    if not words.words and not words.phrases:
        return False
    spaced = _spaced(text)
    return not words.words.isdisjoint(spaced.split()) or any(phrase in spaced for phrase in words.phrases)


_FILTERS: tuple[Callable[[str, TextFilterSettings], bool], ...] = (
    too_short,
    too_long,
    no_letters,
    file_name,
    url_text,
    boilerplate,
    credit_line,
    repeated_characters,
)

TEXT_REASONS = (*(check.__name__ for check in _FILTERS), adult_word.__name__)
"""Why a text is left out, in the order in which the filters are asked."""


def text_reason(text: str, settings: TextFilterSettings, adult_words: WordList = NO_WORDS) -> str | None:
    """The first reason of `TEXT_REASONS` for which a text is left out, or None.

    Args:
        text: as `clean_text` returns it.
        settings: limits and switches.
        adult_words: what `read_word_list(settings.adult_words)` gave; read once, asked often.
    """
    for check in _FILTERS:
        if check(text, settings):
            return check.__name__
    return adult_word.__name__ if adult_word(text, adult_words) else None


def _bare_words(text: str) -> str:
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split())


_BARE_BOILERPLATE = frozenset(map(_bare_words, BOILERPLATE))


def _spaced(text: str) -> str:
    return f" {' '.join(_NOT_WORD_CHARACTER.sub(' ', text.casefold()).split())} "
