from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.training.objectives.words import distinct_word_weights, ends, word_mask
from openwit.training.tokenizer.bpe import clip_tokenizer


def test_start_end_and_padding_are_no_words_but_the_exclamation_mark_is(made: SimpleNamespace) -> None:
    tokens = made.rows([5, 0, 5], [7], [])
    assert ends(tokens).tolist() == [4, 2, 1]
    assert word_mask(tokens).tolist() == [[False, True, True, True, False], [False, True] + [False] * 3, [False] * 5]
    assert distinct_word_weights(tokens).tolist() == [[0, 0.5, 0.5, 0, 0], [0, 1, 0, 0, 0], [0] * 5]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=5), st.integers(0, 3))
def test_weights_are_even_over_distinct_words(texts: list[list[int]], padding: int) -> None:
    width = max(map(len, texts)) + 2 + padding
    tokens = torch.zeros(len(texts), width, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([98, *text, 99])
    for row, text, weights in zip(tokens, texts, distinct_word_weights(tokens), strict=True):
        held = {int(word): float(weight) for word, weight in zip(row, weights, strict=True) if weight}
        assert held == {word: torch.tensor(1 / len(set(text))).item() for word in text}
        assert int((weights > 0).sum()) == len(held)


def test_of_real_captions_only_the_words_remain() -> None:
    tokens = torch.from_numpy(clip_tokenizer()(["a dog, a red dog!", "two"], 77))
    assert word_mask(tokens).sum(dim=1).tolist() == [7, 1]
    assert (distinct_word_weights(tokens) > 0).sum(dim=1).tolist() == [5, 1]
