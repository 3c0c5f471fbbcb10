"""Say of tokenizers what configurations need, without the libraries that a tokenizer needs."""

from typing import Literal

Cleaning = Literal["canonicalize", "lower", "whitespace"]
"""What is done to a text before a tokenizer of another program; names as in open_clip."""

VOCABULARY_SIZE = 49_408
"""Ids of CLIP's vocabulary: 256 bytes, 256 word-final bytes, 48,894 merges, start and end of text."""

TOKENIZER_SUFFIXES = (".json", ".model")
"""Of tokenizer.json and of sentencepiece models; a merges file has any other."""
