"""Sizes of CLIP's vocabulary, without the libraries that a tokenizer needs."""

VOCABULARY_SIZE = 49_408
"""Ids of CLIP's vocabulary: 256 bytes, 256 word-final bytes, 48,894 merges, start and end of text."""

TOKENIZER_SUFFIXES = (".json", ".model")
"""Of tokenizer.json and of sentencepiece models; a merges file has any other."""
