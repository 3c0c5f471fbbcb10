import tarfile
from pathlib import Path

import pytest

from openwit.pipeline.stages.queries.query_list import Entry, QueryList, add_bigrams, pmi
from openwit.pipeline.stages.queries.sources import builtin_wordnet, read_query_table, read_wordnet, title_query
from openwit.schemas.common.errors import OpenWITError

WORDNET = Path(__file__).parents[5] / "shared" / "data" / "wordnet-3.0.tar.gz"


def test_pmi_is_that_of_independent_words_zero():
    assert pmi(1, 10, 10, 100) == 0
    assert pmi(10, 10, 10, 1000) == pytest.approx(6.644, abs=1e-3)


def test_order_limit_and_reasons():
    queries = QueryList(max_words=2)
    for word, count in (("kite", 5), ("red", 9)):
        queries.add(word, Entry("word", count=count))
    queries.refuse("below_min_count", 3)
    add_bigrams(queries, {"red kite": 4, "kite red": 1}, {"red": 9, "kite": 5}, 20, min_pmi=0.5)
    queries.add("Red!", Entry("title"))
    queries.add("a long title", Entry("title"))
    queries.add("…", Entry("synset"))
    queries.add("heron", Entry("synset"))
    table = queries.table(limit=3)
    assert table.column("query").to_pylist() == ["red", "kite", "heron"]
    assert queries.reasons == {
        "below_min_count": 3, "low_pmi": 1, "duplicate": 1, "too_many_words": 1, "no_words": 1, "over_limit": 1,
    }  # fmt: skip
    assert queries.offered == table.num_rows + queries.reasons.total()


def test_what_is_too_much_is_cut_from_bigrams_and_titles_alike():
    queries = QueryList(max_words=3)
    queries.add("wren", Entry("synset"))
    queries.add("oak", Entry("word", count=1))
    for n in range(8):
        queries.add(f"pair {n}", Entry("bigram", pmi=float(n), rank=float(n)))
    for n in range(4):
        queries.add(f"title {n}", Entry("title", views=1000 * n, rank=1000.0 * n))
    assert queries.table(limit=8).column("query").to_pylist() == [
        "oak", "pair 7", "pair 6", "pair 5", "pair 4", "title 3", "title 2", "wren",
    ]  # fmt: skip
    assert queries.reasons["over_limit"] == 6
    assert queries.table(limit=1).num_rows == 1


def test_the_best_bigrams_only():
    queries = QueryList(max_words=2)
    bigrams = {"red kite": 4, "grey heron": 2, "of the": 9}
    words = {"red": 9, "kite": 5, "grey": 3, "heron": 2, "of": 50, "the": 60}
    add_bigrams(queries, bigrams, words, 1000, min_pmi=0, top=1)
    assert list(queries.entries) == ["grey heron"]
    assert queries.reasons == {"low_pmi": 2}


def test_title_loses_its_parenthesis():
    assert title_query("Mercury (planet)") == "Mercury"


def test_wordnet_lemmas(tmp_path):
    for name in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"index.{name}").write_text(f"  1 licence\nhot_dog_{name} n 1 2 @ ~ 1 0 123\n")
    assert read_wordnet(tmp_path) == ["hot dog adj", "hot dog adv", "hot dog noun", "hot dog verb"]
    (tmp_path / "index.adv").unlink()
    with pytest.raises(OpenWITError, match="index.adv is missing"):
        read_wordnet(tmp_path)


@pytest.mark.skipif(not WORDNET.is_file(), reason="needs ../shared/data/wordnet-3.0.tar.gz")
def test_bundled_lemmas_are_those_of_wordnets_own_files(tmp_path):
    with tarfile.open(WORDNET) as tar:
        tar.extractall(tmp_path, [name for name in tar.getnames() if "index." in name], filter="data")
    assert builtin_wordnet() == read_wordnet(tmp_path / "wordnet")


def test_bundled_lemmas_are_sorted_and_unique():
    lemmas = builtin_wordnet()
    assert len(lemmas) == 147_306
    assert lemmas == sorted(set(lemmas))


def test_lists_of_ones_own(tmp_path):
    (tmp_path / "q.txt").write_text("red kite\n\n heron \n")
    assert read_query_table(tmp_path / "q.txt") == ["red kite", "heron"]
    (tmp_path / "q.tsv").write_text('query\tsource\nred kite\tx\n"quoted\ty\n')
    assert read_query_table(tmp_path / "q.tsv") == ["red kite", '"quoted']
    (tmp_path / "bad.csv").write_text("word\nkite\n")
    with pytest.raises(OpenWITError, match="no column 'query' .it has: word."):
        read_query_table(tmp_path / "bad.csv")
    with pytest.raises(OpenWITError, match="does not exist"):
        read_query_table(tmp_path / "gone.txt")
