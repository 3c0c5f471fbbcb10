import re
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.queries import ngrams
from openwit.pipeline.stages.queries.ngrams import TermCounter
from openwit.pipeline.text.normalise import normalise

BREAK = ngrams._BREAK


def plainly(texts):
    """The same counts, one run and one word after the other."""
    words, bigrams = Counter(), Counter()
    for text in texts:
        for run in BREAK.split(text):
            tokens = normalise(run).split()
            words.update(tokens)
            bigrams.update(f"{a} {b}" for a, b in pairwise(tokens))
    return words, bigrams


def test_bigrams_never_cross_a_sentence_end_or_a_heading():
    counter = TermCounter()
    counter.add("Red kite\nA red kite flew. Kite, red and New York")
    assert counter.words["red"] == 3
    assert counter.bigrams == {
        "red kite": 2, "a red": 1, "kite flew": 1, "red and": 1, "and new": 1, "new york": 1,
    }  # fmt: skip


@given(st.lists(st.text(alphabet=st.sampled_from("aB é\0\x1f.\n-’ß中ﬁ1"), max_size=40), max_size=6))
def test_counts_are_those_of_the_plain_way(texts):
    counter = TermCounter()
    for text in texts:
        counter.add(text)
    assert (counter.words, counter.bigrams) == plainly(texts)
    assert len(counter) == len(counter.words) + len(counter.bigrams)


def test_counts_add_up_however_often_they_are_taken(monkeypatch):
    monkeypatch.setattr(ngrams, "_COUNT_AT", 7)
    texts = [f"the red kite {n % 3} flew over the {re.sub('0', 'o', str(n % 5))} hills" for n in range(50)]
    counter = TermCounter()
    for text in texts:
        counter.add(text)
    assert (counter.words, counter.bigrams) == plainly(texts)


def test_words_alone():
    counter = TermCounter(bigrams=False)
    counter.add("a red kite")
    assert counter.bigrams == {}
    assert counter.words.total() == 3
