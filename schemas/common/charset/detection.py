"""Detect an encoding: valid UTF-8, else the one under which the bytes read most like a language that it serves.

A closed list of encodings is tried, each with its languages, on a bounded sample. The hints (a page's `lang`, its
top-level domain) are a prior; windows-1252 is the answer where nothing speaks for another one.
"""

import codecs
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from openwit.schemas.common.charset.models import Pairs, cjk_score, letter_model
from openwit.schemas.common.charset.unicode import marked_codec, wide_codec

FALLBACK = "cp1252"

# Codecs that remove the mark.
_READS_MARK = {
    "utf-8": "utf-8-sig", "utf-16-le": "utf-16", "utf-16-be": "utf-16", "utf-32-le": "utf-32", "utf-32-be": "utf-32",
}  # fmt: skip

_CENTRAL = ("pl", "cs", "sk", "hu", "sl", "hr", "ro")
_CYRILLIC = ("ru", "uk", "bg", "mk")
_WESTERN = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "ca", "sq", "et", "id", "is")
# codec: (prior, languages)
_ALPHABETS: dict[str, tuple[float, tuple[str, ...]]] = {
    "cp1252": (5.0, _WESTERN),
    "iso8859-15": (3.0, _WESTERN),
    "cp1250": (0.5, _CENTRAL),
    "iso8859-2": (0.0, _CENTRAL),
    "cp1251": (1.0, _CYRILLIC),
    "koi8-r": (0.0, ("ru",)),
    "koi8-u": (-0.5, ("uk",)),
    "iso8859-5": (-1.0, _CYRILLIC),
    "cp866": (-1.0, ("ru", "bg")),
    "mac-cyrillic": (-2.0, ("ru",)),
    "cp1253": (0.5, ("el",)),
    "iso8859-7": (0.0, ("el",)),
    "cp1254": (0.0, ("tr",)),
    "cp1255": (0.0, ("he",)),
    "cp1256": (0.5, ("ar", "fa", "ur")),
    "iso8859-6": (-0.5, ("ar",)),
    "cp1257": (0.0, ("lt", "lv", "et")),
    "iso8859-4": (-3.0, ("lt", "lv", "et")),
    "cp1258": (-1.0, ("vi",)),
    "cp874": (0.0, ("th",)),
}
_CJK = {"gb18030": "zh", "big5hkscs": "tw", "euc_jp": "ja", "cp932": "ja", "cp949": "ko"}
_HINT = 8.0
_DOMAIN_HINT = 5.0
_LANGUAGES_OF_DOMAINS = {
    "cz": "cs", "dk": "da", "gr": "el", "cy": "el", "ee": "et", "ir": "fa", "il": "he", "jp": "ja", "kr": "ko",
    "ua": "uk", "rs": "sr", "si": "sl", "vn": "vi", "cn": "zh", "hk": "tw", "tw": "tw", "se": "sv", "at": "de",
    "ch": "de", "br": "pt", "mx": "es", "ar": "es", "cl": "es", "co": "es", "pe": "es", "by": "ru", "kz": "ru",
    "su": "ru", "be": "nl", "sa": "ar", "eg": "ar", "ae": "ar", "al": "sq", "pk": "ur", "xn--p1ai": "ru",
    **{code: code for code in (
        "de", "fr", "es", "it", "pt", "nl", "no", "fi", "pl", "sk", "hu", "hr", "ro", "ru", "bg", "mk", "lt", "lv",
        "tr", "th", "id", "is",
    )},
}  # fmt: skip
_SAME = {"nb": "no", "nn": "no", "sr": "mk", "be": "ru", "kk": "ru", "bs": "hr", "iw": "he", "az": "tr", "gl": "pt"}
_CHINESE = {"zh-tw": "tw", "zh-hk": "tw", "zh-hant": "tw", "zh-mo": "tw"}

_SCANNED = 1 << 18
_SAMPLE = 2048
_TAG = re.compile(rb"<[^<>]{0,2000}>")
# Words with the few bytes that ISO 8859-15 and windows-1252 read differently; they are rare, and decide.
_LATIN_9 = re.compile(rb"[A-Za-z\xc0-\xff]{0,20}[\xa4\xa6\xa8\xb4\xb8\xbc-\xbe][A-Za-z\xc0-\xff]{0,20}")
_TELLING = 40
_MOST_BAD = 0.03
_BLANKED = {code: " " for code in range(128) if not chr(code).isalpha()}


def detect(data: bytes, *, languages: Iterable[str] = (), tld: str = "") -> str:
    """Return the name of the Python codec that most likely decodes bytes without a declaration. Pure; never raises.

    Linear in time: UTF-8 is checked on everything, other encodings on a sample. A character that the end cuts does
    not change the answer.

    Args:
        data: the bytes, or a beginning of them.
        languages: languages that the text may be in, such as a page's `lang`: ISO 639-1, with or without a region.
        tld: the last label of the host that it came from, such as `pl`.
    """
    marked, _ = marked_codec(data[:4])
    if marked is not None:
        return _READS_MARK[marked]
    wide, _ = wide_codec(data[:_SCANNED])
    if wide is not None:
        return wide
    if data.isascii():
        return "iso2022_jp" if _is_iso2022_jp(data) else "utf-8"
    if is_mostly_utf8(data):
        return "utf-8"
    best = _best(_sample(data), _hints(languages, tld))
    return _latin(data) if best in (FALLBACK, "iso8859-15") else best


def is_mostly_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8, but for a cut end and at most every tenth character beyond ASCII."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        bad = text.count("\ufffd")
        return bad * 10 <= len(text) - len(text.encode("ascii", "ignore"))
    # a single byte at the end may be a letter of another encoding
    return data.isascii() or not text.isascii()


def _is_iso2022_jp(data: bytes) -> bool:
    at = data.find(b"\x1b$")
    if at < 0 or data[at + 2 : at + 3] not in (b"B", b"@"):
        return False
    return data[at : at + _SAMPLE].decode("iso2022_jp", "replace").count("\ufffd") < 2


def _sample(data: bytes) -> bytes:
    """Return words with bytes beyond ASCII, and the words beside them, without tags.

    It ends with a blank unless a character may be cut there, so that half a character at its end counts as wrong.
    """
    first = next(iter(re.finditer(rb"[\x80-\xff]", data))).start()
    words = _TAG.sub(b" ", data[max(0, first - 200) : first + _SCANNED]).split()
    taken: list[bytes] = []
    size = 0
    for n, word in enumerate(words):
        high = not word.isascii()
        beside = (n > 0 and not words[n - 1].isascii()) or (n + 1 < len(words) and not words[n + 1].isascii())
        if high or (beside and len(word) < 30):
            taken.append(word)
            size += len(word) + 1
            if size > _SAMPLE:
                break
    sample = b" ".join(taken)[: 2 * _SAMPLE - 1]
    may_be_cut = data[-1] >= 0x80 or len(sample) == 2 * _SAMPLE - 1 or len(data) > first + _SCANNED
    return sample if may_be_cut else sample + b" "


def _latin(data: bytes) -> str:
    """Return windows-1252 or ISO 8859-15 for a Western text, by the words that they read differently."""
    words = [found[0] for found in itertools.islice(_LATIN_9.finditer(data, 0, _SCANNED), _TELLING)]
    scores = {}
    for codec in (FALLBACK, "iso8859-15"):
        pairs = _pairs(b" ".join(words).decode(codec, "replace"))
        scores[codec] = _ALPHABETS[codec][0] + max(letter_model(language).score(pairs) for language in _WESTERN)
    return max(scores, key=lambda codec: scores[codec])


def _hints(languages: Iterable[str], tld: str) -> dict[str, float]:
    hints: dict[str, float] = {}
    domain = _LANGUAGES_OF_DOMAINS.get(tld.lower().strip("."))
    if domain:
        hints[_SAME.get(domain, domain)] = _DOMAIN_HINT
    for name in languages:
        tag = name.strip().lower().replace("_", "-")
        language = _CHINESE.get(tag) or _CHINESE.get("-".join(tag.split("-")[:2])) or tag.partition("-")[0]
        language = _SAME.get(language, language)
        hints[language] = max(hints.get(language, 0.0), 6.0 if language == "en" else _HINT)
    return hints


def _best(sample: bytes, hints: dict[str, float]) -> str:
    scores: dict[str, float] = {}
    for codec, language in _CJK.items():
        text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
        if text.count("\ufffd") > max(_MOST_BAD * len(text), 0):
            continue
        scores[codec] = cjk_score(_pairs(text), language) + hints.get(language, 0.0)
    for codec, (prior, languages) in _ALPHABETS.items():
        text = sample.decode(codec, "replace")
        if codec == "cp1258":
            text = unicodedata.normalize("NFC", text)
            text = "".join("\u1ec3" if "\u1ea0" <= letter <= "\u1eff" else letter for letter in text)
        pairs = _pairs(text)
        scores[codec] = prior + max(
            letter_model(language).score(pairs) + hints.get(language, 0.0) for language in languages
        )
    return max(scores, key=lambda codec: (scores[codec], codec == FALLBACK))


def _pairs(text: str) -> Pairs:
    """Count the pairs of neighbours; ASCII that is no letter is a space."""
    return Counter(itertools.pairwise(f" {text} ".translate(_BLANKED)))
