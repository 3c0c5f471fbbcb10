"""Encode texts by CLIP's byte-pair encoding, behind a small interface that other tokenizers can implement."""

import gzip
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.html_text import unescape

VOCABULARY_SIZE = 49_408
START_OF_TEXT = 49_406
END_OF_TEXT = 49_407
BYTES = 256
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
# Number of ids without any merges: every byte within a word and at its end, start and end of text.
SMALLEST_VOCABULARY = 2 * BYTES + 2
# As in openai/CLIP (simple_tokenizer.py): contractions, words of letters, single digits, runs of anything else.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# The part of openai/CLIP's bpe_simple_vocab_16e6.txt (MIT) that CLIP uses: its header and the first 48,894 merges.
CLIP_MERGES = Path(__file__).with_name("clip_merges.txt.gz")

# In texts of these characters, ftfy and unescape change only white space.
_PLAIN = re.compile(r"[\t\n\r -%'-~]*")


class Tokenizer(Protocol):
    """Maps texts to token ids."""

    @property
    def stored(self) -> Any:
        """What a checkpoint holds, by which tokenizers are compared; None: CLIP's own."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Number of distinct ids."""
        ...

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends every text, and at which the text is pooled."""
        ...

    def __call__(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """Return token ids, shape (texts, length): start, text, end, padded with zeros.

        `length` is that of the longest of these texts, at most `context_length`; a text that is too long is truncated,
        and its last token is still the end of text. (`FileTokenizer`: as the file says, always `context_length`.)
        """
        ...


class ClipTokenizer:
    """Lower-cased BPE of openai/CLIP: 256 bytes, 256 word-final bytes, the merges, start and end of text.

    Texts are cleaned as in openai/CLIP (`cleaned`). One difference is intended: OpenAI's interprets `<|startoftext|>`
    and `<|endoftext|>` in a text as the special tokens, so that a caption could end early; here they are ordinary
    text.

    Args:
        merges: a merges file's text (see `read_merges`); None for CLIP's own 48,894 merges.

    Raises:
        DataError: `merges` is not a merges file.
    """

    def __init__(self, merges: str | None = None) -> None:
        self.merges = merges
        pieces = vocabulary(pairs := read_merges(clip_merges() if merges is None else merges, "the merges"))
        self.stored = None if _are_clips(pairs) else merges  # a file of CLIP's own merges is CLIP's tokenizer
        self.start_of_text = pieces[START]
        self.end_of_text = pieces[END]
        self.vocabulary_size = len(pieces)
        self._encode = _encoder(pieces, pairs).encode_batch_fast

    def __call__(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """See `Tokenizer`."""
        rows = [found.ids[: context_length - 2] for found in self._encode([cleaned(text) for text in texts])]
        length = max((len(row) for row in rows), default=0) + 2
        ids = np.zeros((len(rows), length), dtype=np.int64)
        for target, row in zip(ids, rows, strict=True):
            target[0] = self.start_of_text
            target[1 : len(row) + 1] = row
            target[len(row) + 1] = self.end_of_text
        return ids

    def __reduce__(self) -> tuple[type["ClipTokenizer"], tuple[str | None]]:
        return ClipTokenizer, (self.merges,)


@cache
def clip_tokenizer() -> ClipTokenizer:
    """Return CLIP's own tokenizer, read once per process (0.2 s)."""
    return ClipTokenizer()


def cleaned(text: str) -> str:
    """Clean a text as openai/CLIP does: repair mis-decoded and HTML-escaped text, collapse white space, lower-case.

    ftfy takes 50 us per text, so texts that it cannot change skip it.
    """
    return " ".join(repaired(text).split()).lower()


def repaired(text: str) -> str:
    """Repair mis-decoded and HTML-escaped text; white space may change."""
    if _PLAIN.fullmatch(text):
        return text
    import ftfy  # takes 70 ms, which most commands do not need

    return unescape(unescape(ftfy.fix_text(text)))


def byte_letters() -> list[str]:
    """Return the 256 letters that represent bytes in merges, in the order of their ids.

    Printable bytes represent themselves and come first; the others have the letters from U+0100 on.
    """
    return list(byte_names().values())


def byte_names() -> dict[int, str]:
    """Map each byte to the letter that represents it; see `byte_letters`."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(BYTES) if byte not in printable]
    names = {byte: chr(byte) for byte in printable}
    return names | {byte: chr(BYTES + number) for number, byte in enumerate(hidden)}


def _are_clips(pairs: list[tuple[str, str]]) -> bool:
    return len(pairs) == VOCABULARY_SIZE - SMALLEST_VOCABULARY and pairs == _clip_pairs()


@cache
def _clip_pairs() -> list[tuple[str, str]]:
    return read_merges(clip_merges(), "the merges")


def read_merges(text: str, where: str) -> list[tuple[str, str]]:
    """Parse a merges file in openai/CLIP's format: a line to ignore, then two pieces per line, by descending priority.

    At most the 48,894 merges of CLIP's vocabulary are read, as by openai/CLIP and open_clip.

    Raises:
        DataError: a line is not a pair of known pieces that make a new one; names it.
    """
    lines = text.split("\n")[1 : 1 + VOCABULARY_SIZE - SMALLEST_VOCABULARY]
    while lines and not lines[-1]:
        lines.pop()
    letters = byte_letters()
    known = {*letters, *(letter + WORD_END for letter in letters)}
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=2):
        parts = line.split()
        if len(parts) != 2 or not known.issuperset(parts) or (piece := parts[0] + parts[1]) in known:
            raise DataError(
                f"{where}, line {number}: {line[:60]!r} is no merge of two known pieces, so this is no merges file "
                "of CLIP's kind: make one with `wit-train tokenizer`"
            )
        known.add(piece)
        pairs.append((parts[0], parts[1]))
    return pairs


def clip_merges() -> str:
    """Return CLIP's own merges as the text of a merges file."""
    return gzip.decompress(CLIP_MERGES.read_bytes()).decode()


def vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Number the pieces: bytes within a word, bytes at its end, the merges in order, start and end of text."""
    letters = byte_letters()
    pieces = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    return {piece: number for number, piece in enumerate(pieces)}


def _encoder(pieces: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    # takes 40 ms, which commands without texts do not need
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    # The loader's threads encode batches in parallel, outside Python's global lock. Another pool of threads would gain
    # nothing, and make every later fork of this process print a warning.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    encoder = Tokenizer(models.BPE(pieces, merges, end_of_word_suffix=WORD_END))
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    return encoder
