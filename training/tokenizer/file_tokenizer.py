"""Encode texts by a tokenizer of a file: Hugging Face's tokenizer.json or a sentencepiece model, such as SigLIP's."""

import base64
import json
import os
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.packed_lists import read_list
from openwit.schemas.common.plugins import one_line
from openwit.training.tokenizer.bpe import cleaned, repaired
from openwit.training.tokenizer.vocabulary import TOKENIZER_SUFFIXES, Cleaning

JSON, PIECES = TOKENIZER_SUFFIXES
# File beside a tokenizer in which Hugging Face states its special tokens.
CONFIG = "tokenizer_config.json"
# Names of the token that ends a text, for files that state none.
_ENDS = ("</s>", "<eos>", "[SEP]", "<|endoftext|>", "<|end_of_text|>")
_PROBE = "a"
_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))

Encode = Callable[[list[str]], list[list[int]]]


def canonical(text: str) -> str:
    """Clean a text as SigLIP does: lower case, no ASCII punctuation, single spaces.

    As open_clip's `canonicalize` (`_` becomes a space, mis-decoded and escaped text is repaired first), which follows
    big_vision's `prompt_engineering.canonicalize_text`. transformers' SiglipTokenizer removes `_` and repairs nothing.
    """
    return " ".join(repaired(text).translate(_NO_PUNCTUATION).lower().split())


_CLEAN: dict[Cleaning, Callable[[str], str]] = {
    "canonicalize": canonical,
    "lower": cleaned,
    "whitespace": lambda text: " ".join(repaired(text).split()),
}


class FileTokenizer:
    """A tokenizer of a file. Every text has the context's length, filled up after the end as its models expect.

    A text is cut so that the tokens that end it remain (`eos: sticky` of big_vision). Names of special tokens in a
    text are ordinary text where the file's model can spell them.

    Args:
        stored: what `read_file` returns and a checkpoint holds: `kind` (suffix), `content` (text; base64 of a
            sentencepiece model), `clean`, and ids: `starts`, `ends` (lists), `pad` (null: not stated; zeros then,
            which the built-in text tower replaces by its own).

    Raises:
        DataError: the content is damaged, or ends no text.
        RecipeError: sentencepiece is not installed.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.stored: dict[str, Any] = dict(stored)
        self.vocabulary_size, self._encode = _opened(stored["kind"], stored["content"])
        self._clean = _CLEAN[stored["clean"]]
        self._starts, self._ends = list(stored["starts"]), list(stored["ends"])
        self.pad: int | None = stored["pad"]
        self.end_of_text: int = self._ends[-1]

    def __call__(self, texts: Sequence[str], context_length: int) -> NDArray[np.int64]:
        """See `Tokenizer`; always (texts, context_length)."""
        ids = np.full((len(texts), context_length), self.pad or 0, dtype=np.int64)
        room = context_length - len(self._starts) - len(self._ends)
        for target, row in zip(ids, self._encode([self._clean(text) for text in texts]), strict=True):
            whole = [*self._starts, *row[:room], *self._ends]
            target[: len(whole)] = whole
        return ids

    def __reduce__(self) -> tuple[type["FileTokenizer"], tuple[dict[str, Any]]]:
        return FileTokenizer, (self.stored,)


def is_tokenizer_file(path: Path | str | None) -> bool:
    """Return whether a path is of a tokenizer.json or a sentencepiece model, by its suffix."""
    return path is not None and Path(path).suffix in TOKENIZER_SUFFIXES


def read_file(path: Path, clean: Cleaning | None = None) -> FileTokenizer:
    """Return the tokenizer of a file, with what the `tokenizer_config.json` beside it states.

    Args:
        path: with a suffix of `TOKENIZER_SUFFIXES`.
        clean: None: SigLIP's, or of SigLIP 2 if the configuration beside it says so.

    Raises:
        DataError: a file is missing or damaged, or no token ends a text.
        RecipeError: sentencepiece is not installed.
    """
    kind, data = path.suffix, read_list(path, str(path))
    try:
        content = base64.b64encode(data).decode() if kind == PIECES else data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no tokenizer.json: {error}") from error
    config = _config(path.with_name(CONFIG))
    try:
        found = (_marks_of_pieces if kind == PIECES else _marks_of_json)(content, config)
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    return FileTokenizer({"kind": kind, "content": content, "clean": clean or _cleaning(config), **found})


def size_of(path: Path) -> int:
    """Return the number of ids of a tokenizer's file.

    Raises:
        DataError, RecipeError: see `read_file`.
    """
    return read_file(path).vocabulary_size


def file_in(folder: Path) -> Path | None:
    """Return the tokenizer's file in a folder of Hugging Face's; None if there is none."""
    names = ("tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.model")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _opened(kind: str, content: str) -> tuple[int, Encode]:
    if kind == PIECES:
        pieces = _pieces(content)
        return pieces.get_piece_size(), lambda texts: pieces.encode(texts)
    encoder = _encoder(content)
    ids = encoder.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise DataError("holds no tokens")

    def encode(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in encoder.encode_batch_fast(texts, add_special_tokens=False)]

    return max(ids) + 1, encode


def _encoder(content: str) -> Any:
    from tokenizers import Tokenizer  # takes 40 ms, which commands without texts do not need

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as for CLIP's
    try:
        encoder = Tokenizer.from_str(content)
    except Exception as error:  # the library raises no narrower one
        raise DataError(f"is no tokenizer.json of Hugging Face: {one_line(error)}") from error
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder


def _pieces(content: str) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise RecipeError(
            "a sentencepiece model needs the package sentencepiece: pip install 'openwit[sentencepiece]', or set "
            "model.tokenizer to the tokenizer.json beside it"
        ) from error
    pieces = sentencepiece.SentencePieceProcessor()
    try:
        pieces.LoadFromSerializedProto(base64.b64decode(content))
    except Exception as error:
        raise DataError(f"is no sentencepiece model: {one_line(error)}") from error
    return pieces


def _marks_of_pieces(content: str, config: Mapping[str, Any]) -> dict[str, Any]:
    pieces = _pieces(content)
    end = pieces.eos_id()
    if end < 0:
        raise DataError("has no token that ends a text")
    pad = _named(config, "pad_token")
    return {"starts": [], "ends": [end], "pad": None if pad is None else int(pieces.piece_to_id(pad))}


def _marks_of_json(content: str, config: Mapping[str, Any]) -> dict[str, Any]:
    encoder = _encoder(content)
    bare = encoder.encode(_PROBE, add_special_tokens=False).ids
    whole = encoder.encode(_PROBE).ids
    first = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0) if bare else 0
    starts, ends = whole[:first], whole[first + len(bare) :]
    # Classes of transformers whose file does not state what they add.
    if "add_eos_token" in config:
        ends = [_end(encoder, config)] if config["add_eos_token"] else []
        start = _named(config, "bos_token") if config.get("add_bos_token") else None
        starts = [] if start is None else [encoder.token_to_id(start)]
    if not ends:
        ends = [_end(encoder, config)]
    return {"starts": starts, "ends": ends, "pad": _pad(encoder, content, config)}


def _end(encoder: Any, config: Mapping[str, Any]) -> int:
    for name in (_named(config, "eos_token"), *_ENDS):
        number = None if name is None else encoder.token_to_id(name)
        if number is not None:
            return int(number)
    raise DataError("has no token that ends a text")


def _pad(encoder: Any, content: str, config: Mapping[str, Any]) -> int | None:
    name = _named(config, "pad_token")
    if name is not None:
        number = encoder.token_to_id(name)
        return None if number is None else int(number)
    stated = json.loads(content).get("padding")
    return None if stated is None else int(stated["pad_id"])


def _cleaning(config: Mapping[str, Any]) -> Cleaning:
    # transformers' Siglip2Tokenizer, a Gemma's, changes the case only.
    return "lower" if str(config.get("tokenizer_class")).startswith(("Siglip2", "Gemma")) else "canonicalize"


def _named(config: Mapping[str, Any], key: str) -> str | None:
    found = config.get(key)
    found = found.get("content") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) else None


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON") from error
    return found if isinstance(found, dict) else {}
