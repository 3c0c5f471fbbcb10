"""CLIP's byte-pair encoding behind a small interface, so that another tokenizer can take its place."""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from instant_clip_tokenizer import Tokenizer as _InstantTokenizer
from numpy.typing import NDArray

VOCABULARY_SIZE = 49_408
START_OF_TEXT = 49_406
END_OF_TEXT = 49_407


class Tokenizer(Protocol):
    """Texts to token ids."""

    @property
    def vocabulary_size(self) -> int:
        """Number of distinct ids."""
        ...

    @property
    def end_of_text(self) -> int:
        """Id of the token that closes every text, and at which the text is pooled."""
        ...

    def __call__(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """Token ids, shape (texts, length): start, text, end, padded with zeros.

        `length` is that of the longest text here, at most `context_length`; a text that is too long is cut, and
        its last token is the end of text all the same.
        """
        ...


class ClipTokenizer:
    """Lower-cased BPE of openai/CLIP: 256 bytes, 256 word-final bytes, 48,894 merges, start and end of text.

    White space is collapsed as in openai/CLIP. Its repair of mis-decoded and HTML-escaped text (ftfy, html) is the
    dataset builder's work and is not repeated here.
    """

    vocabulary_size = VOCABULARY_SIZE
    end_of_text = END_OF_TEXT

    def __init__(self) -> None:
        self._encode = _InstantTokenizer().encode

    def __call__(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """See `Tokenizer`."""
        rows = [self._encode(" ".join(text.split()))[: context_length - 2] for text in texts]
        length = max((len(row) for row in rows), default=0) + 2
        ids = np.zeros((len(rows), length), dtype=np.int64)
        for target, row in zip(ids, rows, strict=True):
            target[0] = START_OF_TEXT
            target[1 : len(row) + 1] = row
            target[len(row) + 1] = END_OF_TEXT
        return ids


@cache
def clip_tokenizer() -> ClipTokenizer:
    """The tokenizer, read once a process (0.1 s)."""
    return ClipTokenizer()
