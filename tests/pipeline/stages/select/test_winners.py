import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.stages.select.winners import DUPLICATE_PAIR, KEPT, OTHER_TEXT, choose_winners

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2**32)), min_size=1, max_size=40)


def verdicts(found, texts):
    url, pair, tie = (np.array([row[n] for row in found], np.uint64) for n in range(3))
    # The text is the pair: equal pairs have equal lengths.
    return choose_winners(url, pair + url * 10, text_length=(pair * 3 % 7 + 1).astype(np.int32), tie=tie, texts=texts)


@given(rows)
def test_every_distinct_pair_stays_once(found):
    verdict = verdicts(found, "all")
    kept = [found[i][:2] for i in np.flatnonzero(verdict == KEPT)]
    assert sorted(kept) == sorted({row[:2] for row in found})
    assert set(verdict) <= {KEPT, DUPLICATE_PAIR}


@given(rows)
def test_one_text_an_image_and_the_longest(found):
    verdict = verdicts(found, "longest")
    kept = [found[i] for i in np.flatnonzero(verdict == KEPT)]
    assert len(kept) == len({row[0] for row in found})
    for url, pair, _ in kept:
        assert pair * 3 % 7 == max(p * 3 % 7 for u, p, _ in found if u == url)
    assert set(verdict) <= {KEPT, DUPLICATE_PAIR, OTHER_TEXT}


@given(rows, st.sampled_from(["all", "longest", "first"]), st.randoms(use_true_random=False))
def test_the_winner_does_not_depend_on_the_order(found, texts, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    kept = [sorted(rows[i] for i in np.flatnonzero(verdicts(rows, texts) == KEPT)) for rows in (found, shuffled)]
    assert kept[0] == kept[1]


@given(rows)
def test_an_empty_text_stays_only_where_its_image_has_no_other(found):
    url, pair, tie = (np.array([row[n] for row in found], np.uint64) for n in range(3))
    verdict = choose_winners(url, pair + url * 10, text_length=pair.astype(np.int32), tie=tie, texts="all")
    kept = sorted(found[i][:2] for i in np.flatnonzero(verdict == KEPT))
    described = {u for u, text, _ in found if text}
    assert kept == sorted({(u, text) for u, text, _ in found if text or u not in described})
