"""Decode a document to UTF-8 by byte order mark, header, `meta`, validity as UTF-8, detection, or windows-1252.

The order is the HTML Standard's (section 13.2.3), with one deviation that crawls need: a document that is valid UTF-8
is UTF-8 whatever it declares, and where the bytes are mostly not in the declared charset, the next source decides.
Detection takes the page's language and its domain as a prior.
"""

import codecs
import itertools
import re

from openwit.pipeline.common.counting import Count, ignore
from openwit.pipeline.common.urls import host_of
from openwit.schemas.common.charset import detect
from openwit.schemas.common.charset.unicode import is_utf8, marked_codec

_META_BYTES = 4096
_META_TAG_BYTES = 1000
_META = re.compile(rb"<meta(?=[\s/])", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""(>)|([^\s=>/"']{1,40})(?:\s{0,9}=\s{0,9}(?:"([^"]*)"?|'([^']*)'?|([^\s>]*)))?""")
_CHARSET = re.compile(rb"""charset\s{0,9}=\s{0,9}["']?\s{0,9}([^\s"';]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""\s{0,99}<\?xml[^>]{0,100}?encoding\s{0,9}=\s{0,9}["']([\w:.+-]{2,40})""", re.IGNORECASE)

# Codecs that browsers use for a label (https://encoding.spec.whatwg.org), where they differ from Python's.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    # A declaration that could be read was not in UTF-16.
    "utf-16": "utf-8",
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
}
_LABELS = {
    label: codec
    for codec, labels in {
        "utf-8": "unicode unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 csunicode iso-10646-ucs-2 "
        "ucs-2 unicodefeff unicodefffe",
        "cp1250": "x-cp1250",
        "cp1251": "x-cp1251",
        "cp1252": "x-cp1252 iso88591 x-user-defined",
        "cp1253": "x-cp1253",
        "cp1254": "x-cp1254 iso88599",
        "cp1255": "x-cp1255",
        "cp1256": "x-cp1256",
        "cp1257": "x-cp1257",
        "cp1258": "x-cp1258",
        "cp874": "dos-874 windows-874 iso885911",
        "iso8859-2": "iso88592",
        "iso8859-3": "iso88593",
        "iso8859-4": "iso88594",
        "iso8859-5": "iso88595",
        "iso8859-6": "iso88596 csiso88596e csiso88596i iso-8859-6-e iso-8859-6-i",
        "iso8859-7": "iso88597 sun_eu_greek",
        "iso8859-8": "iso88598 csiso88598e csiso88598i iso-8859-8-e iso-8859-8-i logical visual",
        "iso8859-13": "iso885913",
        "iso8859-14": "iso885914",
        "iso8859-15": "iso885915 csisolatin9",
        "koi8-r": "koi koi8",
        "koi8-u": "koi8-ru",
        "mac-roman": "x-mac-roman macintosh csmacintosh mac",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "gb18030": "x-gbk csgb2312 gb_2312 gb_2312-80",
        "big5hkscs": "x-x-big5 cn-big5",
        "euc_jp": "x-euc-jp cseucpkdfmtjapanese",
        "cp932": "x-sjis windows-31j",
        "cp949": "ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949 cseuckr csksc56011987 iso-ir-149",
    }.items()
    for label in labels.split()
}  # https://encoding.spec.whatwg.org/#names-and-labels, what Python's registry lacks
_CODECS = frozenset(
    {
        "utf-8", "cp866", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8",
        "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15", "iso8859-16", "koi8-r", "koi8-u", "mac-roman",
        "mac-cyrillic", "cp874", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
        "cp1258", "gb18030", "big5hkscs", "euc_jp", "iso2022_jp", "cp932", "cp949",
    }
)  # fmt: skip

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_LANG = re.compile(
    rb"""<html\b[^>]{0,400}?\slang\s*=\s*["']?([a-z]{2,3}(?:-[a-z]{2,4})?)"""
    rb"""|content-language["']?\s{1,9}content\s*=\s*["']?([a-z]{2,3}(?:-[a-z]{2,4})?)""",
    re.IGNORECASE,
)

CHARSET_DETECTED = "charset_detected"
CHARSET_WRONG = "charset_wrong"
CHARSET_NOTES = (CHARSET_DETECTED, CHARSET_WRONG)
"""Notes of pages whose encoding was found by their letters: none is declared, or the bytes are not in the declared."""


def to_utf8(body: bytes, header_charset: str | None = None, *, url: str = "", count: Count = ignore) -> bytes | str:
    """Return the document as UTF-8 bytes (unchanged if they were UTF-8) or as text. Never raises.

    Args:
        body: the document's bytes.
        header_charset: the charset of the Content-Type header, as written by the server.
        url: of the page; the domain is evidence of a language.
        count: receives one of `CHARSET_NOTES` where the declaration is wrong or there is none.
    """
    marked, mark = marked_codec(body[:4])
    if marked is not None:
        rest = body[mark:]
        return rest if marked == "utf-8" and is_utf8(rest) else rest.decode(marked, "replace")
    if b"\0" not in body[:_META_BYTES] and b"\x1b" not in body and is_utf8(body):
        return body
    declared = [codec for codec in (codec_of(header_charset), _meta_codec(body)) if codec is not None]
    if "iso2022_jp" in declared:  # it uses escape sequences and is valid ASCII
        return body.decode("iso2022_jp", "replace")
    for codec in dict.fromkeys(declared):
        text = body.decode(codec, "replace")
        if _mostly_decoded(text) and not body.isascii():
            return text
    codec = detect(body, languages=_languages(body), tld=_top_level_domain(url))
    if codec != "utf-8" or not body.isascii():
        count(CHARSET_WRONG if declared else CHARSET_DETECTED)
    return body if codec == "utf-8" and is_utf8(body) else body.decode(codec, "replace")


def _languages(body: bytes) -> list[str]:
    """Return what the page says of its language: `lang` of `html`, or Content-Language."""
    return [found.decode("ascii") for pair in _LANG.findall(body[:_META_BYTES]) for found in pair if found]


def _top_level_domain(url: str) -> str:
    return host_of(url).rpartition(".")[2] if url else ""


def codec_of(label: str | None) -> str | None:
    """Return the Python codec that a browser would use for a charset label; None for unknown and unsafe ones."""
    if not label:
        return None
    label = label.strip().strip("\"'").lower()
    codec = _LABELS.get(label)
    if codec is None:
        try:
            codec = codecs.lookup(label).name
        except (LookupError, ValueError, UnicodeError):
            return None
        codec = _SUPERSETS.get(codec, codec)
    return codec if codec in _CODECS else None


def _meta_codec(body: bytes) -> str | None:
    """Return the codec that an XML declaration or the first `meta` with a known label names."""
    head = _COMMENT.sub(b"", body[:_META_BYTES])
    xml = _XML.match(head)
    named = (_meta_label(head[tag.end() : tag.end() + _META_TAG_BYTES]) for tag in _META.finditer(head))
    labels = itertools.chain([xml.group(1)] if xml is not None else [], named)
    return next((codec for label in labels if (codec := codec_of(label.decode("ascii", "replace")))), None)


def _meta_label(tag: bytes) -> bytes:
    """Return the label of a `meta`: `charset`, or `content` beside `http-equiv`; a description declares nothing."""
    attributes: dict[bytes, bytes] = {}
    for found in _ATTRIBUTE.finditer(tag):
        end, name, *values = found.groups(b"")
        if end:
            break
        attributes.setdefault(name.lower(), b"".join(values))
    if b"charset" in attributes:
        return attributes[b"charset"].strip()
    label = _CHARSET.search(attributes.get(b"content", b"")) if b"http-equiv" in attributes else None
    return label.group(1) if label is not None else b""


def _mostly_decoded(text: str) -> bool:
    """Return whether at most every tenth non-ASCII character is invalid: a few bad bytes are not another encoding."""
    bad = text.count("\ufffd")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return bad * 10 <= beyond_ascii
