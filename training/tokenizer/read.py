"""Read the tokenizer of a configuration or a checkpoint: CLIP's, a merges file's, or one of another program's file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.packed_lists import read_list
from openwit.training.tokenizer.bpe import SMALLEST_VOCABULARY, ClipTokenizer, clip_tokenizer, read_merges
from openwit.training.tokenizer.file_tokenizer import FileTokenizer, is_tokenizer_file, read_file, size_of
from openwit.training.tokenizer.vocabulary import Cleaning

AnyTokenizer = ClipTokenizer | FileTokenizer


def read_tokenizer(path: Path | None, clean: Cleaning | None = None) -> AnyTokenizer:
    """Return the tokenizer of a configuration's `model.tokenizer`; None is CLIP's own.

    Args:
        path: merges file, tokenizer.json or sentencepiece model.
        clean: see `model.clean`.

    Raises:
        DataError: the file is missing, or is of none of these kinds.
        RecipeError: a package is missing.
    """
    if path is None:
        return clip_tokenizer()
    return read_file(path, clean) if is_tokenizer_file(path) else ClipTokenizer(_merges_text(path))


def stored_tokenizer(state: Mapping[str, Any]) -> AnyTokenizer:
    """Return the tokenizer of a checkpoint, whose entry `tokenizer` holds it (`stored`) if it is not CLIP's."""
    stored = state.get("tokenizer")
    if stored is None:
        return clip_tokenizer()
    return FileTokenizer(stored) if isinstance(stored, Mapping) else ClipTokenizer(stored)


def vocabulary_of(path: Path) -> int:
    """Return the number of ids of a tokenizer's file.

    Raises:
        DataError, RecipeError: see `read_tokenizer`.
    """
    if is_tokenizer_file(path):
        return size_of(path)
    return SMALLEST_VOCABULARY + len(read_merges(_merges_text(path), str(path)))


def _merges_text(path: Path) -> str:
    try:
        return read_list(path, str(path)).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a merges file: {error}") from error
