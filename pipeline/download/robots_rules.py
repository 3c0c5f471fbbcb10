"""Parse a robots.txt and compile the rules for one agent, so that a look-up does not grow with the number of rules.

What counts as a rule is what Protego (Scrapy's parser) takes for one: RFC 9309, with the spellings that sites use. A
rule without wildcard is found among sorted prefixes; of the rules with wildcards only those are tried whose rarest
part, cut to `_KEY` characters, occurs in the path. Matching never backtracks.
"""

import bisect
import math
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

_DISALLOW = frozenset({"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"})
_ALLOW = frozenset({"allow"})
_AGENT = frozenset({"user-agent", "useragent", "user agent"})
_DELAY = frozenset({"crawl-delay", "crawl delay"})
# These belong to the whole file, and end no group.
_SITE_WIDE = frozenset({"sitemap", "sitemaps", "site-map", "host"})
_OTHERS = frozenset({"request-rate", "request rate", "visit-time", "visit time"})
_FIELDS = _DISALLOW | _ALLOW | _AGENT | _DELAY | _SITE_WIDE | _OTHERS

_PLAIN_PATTERN = re.compile(r"[A-Za-z0-9_.~/=*-]+\$?").fullmatch
_PLAIN_PATH = re.compile(r"/(?!/)[A-Za-z0-9_.~/=-]*").fullmatch
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_STARS = re.compile(r"\*+")
_KEY = 16

Key = tuple[int, bool]
"""(length of a rule, whether it allows): of the rules that match, the greatest decides."""
_NONE: Key = (0, True)


class CompiledRules:
    """The rules of one group.

    Args:
        rules: (pattern as in the file, whether it allows).
        crawl_delay_s: seconds, 0 without one.
    """

    def __init__(self, rules: list[tuple[str, bool]], crawl_delay_s: float = 0.0) -> None:
        self.crawl_delay_s = crawl_delay_s
        prefixes: dict[str, Key] = {}
        self._exact: dict[str, Key] = {}
        wild: dict[str, Key] = {}
        for pattern, allow in _spellings(rules):
            key = (len(pattern), allow)
            anchored = pattern[-1] == "$"
            body = pattern[:-1] if anchored else pattern
            if "*" in body:
                body = _STARS.sub("*", body) if "**" in body else body
                if body.find("*") == len(body) - 1:  # a star at the end changes nothing, not even before an anchor
                    body, anchored = body[:-1], False
            table = wild if "*" in body else self._exact if anchored else prefixes
            entry = body + "$" if anchored and table is wild else body
            if key > table.get(entry, _NONE):
                table[entry] = key
        self._index_prefixes(prefixes)
        self._index_wild(wild)

    def allows(self, path: str) -> bool:
        """Return whether a path with its query may be fetched; as in a URL, percent-encoded."""
        if path.partition("?")[0] == "/robots.txt":
            return True
        path = quote_path(path)
        best = max(self._prefix_key(path), self._exact.get(path, _NONE))
        for number in self._candidates(path):
            pattern, key = self._wild[number]
            if key <= best:
                break
            if _matches(pattern, path):
                best = key
                break
        return best[1]

    def _index_prefixes(self, prefixes: dict[str, Key]) -> None:
        """Sort the prefixes; each knows the longest shorter one that begins it, and the best key of that line."""
        self._prefixes = sorted(prefixes)
        self._parents: list[int] = []
        self._best: list[Key] = []
        line: list[int] = []
        for number, prefix in enumerate(self._prefixes):
            while line and not prefix.startswith(self._prefixes[line[-1]]):
                line.pop()
            parent = line[-1] if line else -1
            self._parents.append(parent)
            self._best.append(max(prefixes[prefix], self._best[parent] if line else _NONE))
            line.append(number)

    def _prefix_key(self, path: str) -> Key:
        at = bisect.bisect_right(self._prefixes, path) - 1
        if at < 0:
            return _NONE
        # Every rule that begins the path begins the rule before it in the order, too.
        common = len(os.path.commonprefix((self._prefixes[at], path)))  # noqa: RUF071 - of any strings
        while at >= 0 and len(self._prefixes[at]) > common:
            at = self._parents[at]
        return self._best[at] if at >= 0 else _NONE

    def _index_wild(self, wild: dict[str, Key]) -> None:
        ranked = sorted(wild.items(), key=lambda item: item[1], reverse=True)
        self._wild = [(pattern, key) for pattern, key in ranked]
        self._by_key: dict[str, list[int]] = {}
        for number, (pattern, _) in enumerate(self._wild):
            self._by_key.setdefault(max(_parts(pattern), key=len)[-_KEY:], []).append(number)
        self._key_lengths = sorted({len(key) for key in self._by_key})

    def _candidates(self, path: str) -> list[int]:
        """Return the wildcard rules that can match, best first."""
        if not self._by_key:
            return []
        found: set[str] = set()
        for length in self._key_lengths:
            found.update(
                piece
                for start in range(len(path) - length + 1)
                if (piece := path[start : start + length]) in self._by_key
            )
        return sorted(number for key in found for number in self._by_key[key])


def parse_rules(text: str, agent: str) -> CompiledRules | None:
    """Return the rules of a robots.txt that hold for `agent` (a product token), or None if no group names it."""
    groups: dict[str, _Group] = {}
    for names, field, value in _grouped(text):
        for name in names:
            group = groups.get(name)
            if group is None:
                group = groups[name] = _Group(_score(name, agent.strip().lower()))
            if group.score and field:
                group.add(field, value)
    best = max(groups.values(), key=lambda group: group.score, default=None)
    return CompiledRules(best.rules, best.crawl_delay_s) if best is not None and best.score else None


class _Group:
    def __init__(self, score: int) -> None:
        self.score = score
        self.rules: list[tuple[str, bool]] = []
        self.crawl_delay_s = 0.0

    def add(self, field: str, value: str) -> None:
        if field in _DISALLOW:
            self.rules.append((value, False))
        elif field in _ALLOW:
            self.rules.append((value, True))
        elif field in _DELAY:
            try:
                seconds = float(value)
            except ValueError:
                return
            if math.isfinite(seconds) and seconds >= 0:
                self.crawl_delay_s = seconds


def _grouped(text: str) -> Iterator[tuple[list[str], str, str]]:
    """Yield (agents of the group, field, value) of each rule; a new agent with an empty field."""
    names: list[str] = []
    previous = ""
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        found = _directive(line) if line else None
        if found is None:
            continue
        field, value = found
        if field in _AGENT and previous and previous not in _AGENT:
            names = []
        if field not in _SITE_WIDE:
            previous = field
        if not value:
            continue
        if field in _AGENT:
            name = value.lower()
            fresh = [name, name.replace("*", "")] if name != "*" and "*" in name else [name]
            names = [*names, *(one for one in fresh if one and one not in names)]
            yield names, "", ""
        elif names and field not in _SITE_WIDE:
            yield names, field, value


def _directive(line: str) -> tuple[str, str] | None:
    """Split a line at its colon, or, for want of a known field before one, at white space."""
    field, colon, value = line.partition(":")
    field = field.strip().lower()
    if colon and (field in _FIELDS or not value or value[0].isspace()):
        return field, value.strip()
    words = line.split(None, 2)
    for count in (1, 2):
        if (name := " ".join(words[:count]).lower()) in _FIELDS:
            return name, " ".join(line.split()[count:])
    return (field, value.strip()) if colon else None


def _score(name: str, agent: str) -> int:
    """Return how well a group's name fits the agent: its length where it begins a word of it, 1 for `*`, or 0."""
    if name == "*":
        return 1
    at = agent.find(name)
    while at >= 0:
        if at == 0 or not (agent[at - 1].isalnum() or agent[at - 1] in "-_"):
            return len(name)
        at = agent.find(name, at + 1)
    return 0


def _spellings(rules: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Yield the patterns as they are compared; a dollar may be meant as one, `index.html` stands for its folder."""
    for written, allow in rules:
        quoted = quote_pattern(written)
        if quoted:
            yield quoted, allow
            if quoted[-1] == "$":
                yield quoted[:-1] + "%24", allow
        if allow and quoted.endswith("/index.html"):
            yield quoted.removesuffix("index.html") + "$", True


def _parts(pattern: str) -> list[str]:
    return (pattern[:-1] if pattern[-1] == "$" else pattern).split("*")


def _matches(pattern: str, path: str) -> bool:
    """Return whether the parts occur in order: each at its first place, which is enough and never goes back."""
    parts, anchored = _parts(pattern), pattern[-1] == "$"
    if not path.startswith(parts[0]):
        return False
    position = len(parts[0])
    for part in parts[1:-1]:
        position = path.find(part, position)
        if position < 0:
            return False
        position += len(part)
    if anchored:
        return len(path) - len(parts[-1]) >= position and path.endswith(parts[-1])
    return path.find(parts[-1], position) >= 0


def quote_path(path: str) -> str:
    """Return a path with its query as rules are compared with it: one spelling of each escape."""
    return path if _PLAIN_PATH(path) else _quote(path, "/%", "/%=")


def quote_pattern(pattern: str) -> str:
    """Return a pattern with one spelling of each escape; a `$` at its end stays an anchor."""
    if _PLAIN_PATTERN(pattern):
        return pattern
    if pattern.startswith(("https://", "http://")):
        pattern = f"/{pattern}"
    anchor = "$" if pattern.endswith("$") else ""
    return _quote(pattern[: len(pattern) - len(anchor)], "/%*", "/%*=") + anchor


def _quote(text: str, kept: str, safe: str) -> str:
    """Undo all escapes but those of `kept`, then encode all but letters, digits, `_.-~` and `safe`."""
    if "%" in text:
        hexes = {f"{ord(character):02X}".encode() for character in kept}

        def undo(match: re.Match[bytes]) -> bytes:
            digits = match.group(1).upper()
            return b"%" + digits if digits in hexes else bytes.fromhex(digits.decode())

        text = _ESCAPE.sub(undo, text.encode("utf-8", "replace")).decode("utf-8", "replace")
    return quote(text, safe=safe, errors="replace")
