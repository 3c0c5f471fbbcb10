"""Parse a removal list: URLs, hashes and domains, one per line, with the kind inferred from the format."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.common.urls import host_of, normalise_url
from openwit.pipeline.download.target import BadUrlError, encode_host
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.packed_lists import read_list
from openwit.schemas.common.text_files import decode_text, said

KINDS = (
    Reason("url", "taken out of the finished dataset, its address was named"),
    Reason("sha256", "taken out of the finished dataset, its file was named"),
    Reason("phash", "taken out of the finished dataset, it looks like an image that was named"),
    Reason("domain", "taken out of the finished dataset, its site was named"),
)
"""Kinds of entries, which are also the drop reasons in the funnel; a sample named by several counts for the first."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHASH = re.compile(r"[0-9a-f]{16}")
# A `#` inside a word belongs to it: URLs have fragments.
_COMMENT = re.compile(r"(?:^|\s)#.*")


@dataclass
class RemovalList:
    """The entries of a list, by kind.

    Attributes:
        sha256: of the text, decompressed.
        lines: per kind, each (normalised) entry with the numbers of its lines.
        words: the entry as written, by line number.
    """

    sha256: str
    lines: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    words: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.domains_of = lru_cache(65_536)(self._domains_of)

    def matches(self, url: str, sha256: str = "", phash: str = "") -> list[tuple[str, str]]:
        """Return every entry that names an image: (kind, entry), in the order of KINDS."""
        found = [
            (kind, value)
            for kind, value in (("url", url), ("sha256", sha256), ("phash", phash))
            if value in self.lines[kind]
        ]
        if self.lines["domain"]:
            found += [("domain", domain) for domain in self.domains_of(host_of(url))]
        return found

    def _domains_of(self, host: str) -> list[str]:
        labels = host.split(".")
        return [name for n in range(len(labels)) if (name := ".".join(labels[n:])) in self.lines["domain"]]


def load_removal_list(path: Path, *, once: bool = False) -> RemovalList:
    """Read a list, compressed or not; `#` at the start of a line or after white space begins a comment.

    Args:
        path: the list.
        once: see `refuse_special`.

    Raises:
        DataError: the file cannot be read, a line is none of the kinds (the message has its number), or no line
            has an entry.
    """
    data = read_list(path, f"list {path}", once=once)
    text = said(decode_text(data), f"list {path}")
    return parse_removal_list(text, hashlib.sha256(data).hexdigest(), f"list {path}")


def parse_removal_list(text: str, digest: str, where: str) -> RemovalList:
    """Parse the text of a list; see `load_removal_list`.

    Args:
        text: the lines.
        digest: identifies the list in the dataset's journal: hex sha256 of its bytes.
        where: begins the messages of errors.

    Raises:
        DataError: a line is of an unknown kind (the message has its number), or no line has an entry.
    """
    found = RemovalList(digest)
    for number, line in enumerate(text.splitlines(), 1):
        word = _COMMENT.sub("", line).strip()
        if word:
            kind, values = _recognise(word, where, number)
            found.words[number] = word
            for value in values:
                found.lines[kind].setdefault(value, []).append(number)
    if not found.words:
        raise DataError(f"{where} is empty: give one URL, hash or domain per line")
    return found


def _recognise(word: str, where: str, number: int) -> tuple[str, list[str]]:
    """Return the kind of an entry, and the forms in which the dataset may hold it."""
    lower = word.lower()
    if not re.search(r"\s", word):
        if "://" in word or lower.startswith("table:"):
            return "url", sorted({word, normalise_url(word)})
        if _SHA256.fullmatch(lower):
            return "sha256", [lower]
        if _PHASH.fullmatch(lower):
            return "phash", [lower]
        if "." in word.strip("."):
            try:
                return "domain", [encode_host(lower.removeprefix("*").removeprefix("."))]
            except BadUrlError:
                pass
    raise DataError(
        f"{where}: line {number}, {word[:80]!r}, is neither a URL with its scheme, nor a sha256 (64 hex digits) "
        "or phash (16), nor a domain"
    )
