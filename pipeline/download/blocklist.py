"""Read a blocklist: domains that must not be contacted.

One domain per line, or the lines of a hosts file (`0.0.0.0 ads.example.org`); `#` starts a comment. A domain includes
its subdomains. Only a 64-bit hash of each is kept: a list of a million domains takes 8 MB.
"""

import io
import ipaddress
import re
from array import array
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from openwit.pipeline.download.target import BadUrlError, encode_host
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.packed_lists import read_list

_MAX_CACHED_HOSTS = 65_536
# Most lines: a domain, or one after the address in a hosts file.
_PLAIN = re.compile(
    rb"(?:(?:0\.0\.0\.0|127\.0\.0\.1)[ \t]+)?"
    rb"([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){0,3}\.[a-z][a-z0-9-]{1,62})[ \t]*\r?\n?\Z"
)


class Blocklist:
    """The domains of a blocklist.

    Args:
        hashes: uint64 (N,), xxh3-64 of each domain, ascending.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes
        self.match = lru_cache(_MAX_CACHED_HOSTS)(self._match)

    def __len__(self) -> int:
        return len(self._hashes)

    def _match(self, host: str) -> str | None:
        """Return the listed domain that equals a host or is a parent of it, or None.

        Args:
            host: lower-case and IDNA, or an address, as in `Target.host`.
        """
        labels = host.split(".")
        # An address has no parent domains.
        starts = 1 if ":" in host or labels[-1].isdigit() else len(labels)
        names = [".".join(labels[n:]) for n in range(starts)]
        wanted = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
        at = np.minimum(np.searchsorted(self._hashes, wanted), max(len(self._hashes) - 1, 0))
        if not len(self._hashes):
            return None
        found = np.flatnonzero(self._hashes[at] == wanted)
        return names[int(found[0])] if len(found) else None


def load_blocklist(path: Path) -> Blocklist:
    """Read a blocklist, compressed or not.

    Raises:
        DataError: the file cannot be read, or a line holds no domain; the message names the line.
    """
    hashes = array("Q")
    digest = xxhash.xxh3_64_intdigest
    try:
        for number, line in enumerate(io.BytesIO(read_list(path, f"blocklist: {path}")), 1):
            plain = _PLAIN.match(line)
            if plain is not None:
                hashes.append(digest(plain.group(1)))
            else:
                hashes.extend(digest(name.encode()) for name in _names(line, path, number))
    except UnicodeDecodeError:
        raise DataError(f"blocklist: {path} is not UTF-8 text: use a file with one domain per line") from None
    return Blocklist(np.unique(np.frombuffer(hashes, np.uint64)))


def _names(line: bytes, path: Path, number: int) -> list[str]:
    """Return the domains of one line."""
    words = line.decode("utf-8-sig" if number == 1 else "utf-8").partition("#")[0].split()
    if len(words) > 1:
        if not _is_address(words[0]):
            raise DataError(f"blocklist: line {number} of {path} holds neither one domain nor a line of a hosts file")
        words = words[1:]
    return [_name(word, path, number) for word in words]


def _name(word: str, path: Path, number: int) -> str:
    try:
        return encode_host(word.lower().removeprefix("*").removeprefix("."))
    except BadUrlError:
        raise DataError(f"blocklist: line {number} of {path}: {word[:80]!r} is not a domain") from None


@lru_cache(64)
def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return False
    return True
