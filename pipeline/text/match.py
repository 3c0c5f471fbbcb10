"""Which queries occur in a caption: whole words, every overlap counted, each query once a caption.

`words` mode matches over normalised text (pipeline.text.normalise). `metaclip` mode restates the rule of MetaCLIP's
curation for parity: case-sensitive, a query matches when it stands between spaces after , . ; : ? ! ` have been set
apart as words of their own and tab, line feed and carriage return turned into spaces.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline.text.normalise import normalise

MatchMode = Literal["words", "metaclip"]

_PUNCTUATION = re.compile(r"([,.;:?!`])")
_BREAKS = str.maketrans("\t\n\r", "   ")


def spaced(text: str) -> str:
    """MetaCLIP's form of a text: padded with spaces, punctuation set apart, breaks turned into spaces."""
    return _PUNCTUATION.sub(r" \1 ", f" {text} ").translate(_BREAKS)


class Matcher:
    """Finds the queries of one list in captions. Instances are independent: two lists in one process do not mix.

    Args:
        queries: the list; the position of a query is its id.
        mode: `words` or `metaclip`.
    """

    def __init__(self, queries: Sequence[str], mode: MatchMode = "words") -> None:
        self.mode: MatchMode = mode
        keys = [normalise(q) for q in queries] if mode == "words" else list(queries)
        self._ids: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            if key.strip(" "):
                self._ids.setdefault(key, []).append(number)
        # A run of words is followed further only while some query begins with it.
        self._prefixes: set[str] = set()
        for key in self._ids:
            parts = key.split(" ")
            self._prefixes.update(" ".join(parts[:n]) for n in range(1, len(parts)))

    def match(self, texts: pa.Array) -> pa.ListArray:
        """Matches a column of captions.

        Args:
            texts: string array (N,); a null matches nothing.

        Returns:
            List array (N,) of int32 query ids, ascending, each once.
        """
        offsets = np.zeros(len(texts) + 1, np.int32)
        values: list[int] = []
        for row, text in enumerate(texts.to_pylist()):
            if text:
                values += self.match_text(text)
            offsets[row + 1] = len(values)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.int32()))

    def match_text(self, text: str) -> list[int]:
        """Query ids of one caption, ascending."""
        # Empty words count in metaclip mode: two spaces in a row keep "hot  dog" from matching "hot dog".
        tokens = normalise(text).split(" ") if self.mode == "words" else spaced(text).split(" ")[1:-1]
        return sorted(set(self._runs(tokens)))

    def _runs(self, tokens: list[str]) -> Iterable[int]:
        ids, prefixes, n = self._ids, self._prefixes, len(tokens)
        for start in range(n):
            run = tokens[start]
            end = start + 1
            while True:
                found = ids.get(run)
                if found is not None:
                    yield from found
                if end == n or run not in prefixes:
                    break
                run = f"{run} {tokens[end]}"
                end += 1
