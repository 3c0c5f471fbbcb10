"""The query list from dumps, page views, WordNet and custom lists."""

import bz2
import gzip
import json
from pathlib import Path

import pytest

from openwit.pipeline.stages.queries import Queries, stage
from openwit.pipeline.stages.queries.counts import plan
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.queries import QUERIES

LARGE_LIST = Path(__file__).parents[4].parent / "shared" / "data" / "queries_500k.tsv.gz"

ARTICLES = [
    ("Red kite", "The red kite is a bird. A [[bird]] of prey, the '''red kite''' hunts [[vole]]s."),
    ("Vole", "A vole is small. The red kite hunts the vole. See [[bird|birds]]."),
    ("Bird", "== Birds ==\nEvery bird has wings."),
    ("Mercury (planet)", "The planet Mercury."),
]


def page(number, title, text, extra=""):
    head = f"<title>{title}</title><ns>0</ns><id>{number}</id>{extra}"
    return f"<page>{head}<revision><text>{text}</text></revision></page>"


def pages():
    redirect = page(99, "Kite, red", "#REDIRECT [[Red kite]]", '<redirect title="Red kite" />')
    return [*(page(n, *article) for n, article in enumerate(ARTICLES)), redirect]


@pytest.fixture
def dump(tmp_path):
    """A multistream dump: every page a bzip2 stream of its own."""
    path = tmp_path / "wiki-multistream.xml.bz2"
    streams = ["<mediawiki>\n", *pages(), "</mediawiki>"]
    path.write_bytes(b"".join(bz2.compress(stream.encode()) for stream in streams))
    return path


def rows(folder):
    return {row["query"]: row for row in QUERIES.read(folder / "queries.parquet").to_pylist()}


def make(job, folder, **settings):
    defaults = {"min_count": 1, "bigrams": {"min_count": 1, "min_pmi": 0}}
    manifest, _ = Queries().run(job, QuerySettings(**{**defaults, **settings}), {}, folder)
    return rows(folder), manifest


def test_parts_of_a_dump_add_up_to_the_whole(job, tmp_path, dump):
    whole, manifest = make(job, tmp_path / "whole", wikipedia=[str(dump)])
    parts, in_parts = make(job, tmp_path / "parts", wikipedia=[str(dump)], part_bytes=100)
    assert len(plan(QuerySettings(wikipedia=[str(dump)], part_bytes=100), [str(dump)], [])) > 5
    assert whole == parts
    assert (tmp_path / "whole/queries.parquet").read_bytes() == (tmp_path / "parts/queries.parquet").read_bytes()
    assert in_parts.funnel == manifest.funnel
    assert (manifest.funnel[0].rows_in, manifest.funnel[0].reasons) == (5, {"redirect": 1})
    assert whole["kite"]["count"] == 3
    assert whole["red kite"]["source"] == "bigram"
    assert whole["red kite"]["count"] == 3


def test_titles_are_ranked_by_links_where_the_dump_has_nothing_better(job, tmp_path, dump):
    found, manifest = make(job, tmp_path / "out", wikipedia=[str(dump)], min_count=50, bigrams=None)
    assert manifest.extra["titles_ranked_by"] == stage.BY_LINKS
    assert {title: row["count"] for title, row in found.items()} == {
        "bird": 2, "vole": 1, "mercury": 0, "red kite": 0,
    }  # fmt: skip
    assert list(found) == ["bird", "vole", "mercury", "red kite"]


def test_page_views_choose_and_rank_the_titles(job, tmp_path, dump):
    lines = ["de Vogel 9000 0", "en Bird 60 0", "en.m Bird 40 0", "en Rare_thing 3 0", "en Talk:Bird 900 0",
             "en Red_kite 500 0", "en.m.d vole 800 0"]  # fmt: skip
    (tmp_path / "pageviews-20240101-000000.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    settings = {"wikipedia": [str(dump)], "pageviews": [str(tmp_path / "pageviews-*.gz")], "min_count": 50}
    found, manifest = make(job, tmp_path / "out", **settings, bigrams=None, min_views=50)
    assert manifest.extra["titles_ranked_by"] == stage.BY_VIEWS
    assert {title: row["views"] for title, row in found.items()} == {"red kite": 500, "bird": 100}
    views = next(step for step in manifest.funnel if step.stage == "pageviews")
    assert (views.rows_in, views.rows_out) == (7, 4)
    assert views.reasons == {"other_namespace": 1, "other_project": 2}
    assert manifest.funnel[-1].reasons["below_min_views"] == 1
    german, _ = make(job, tmp_path / "de", pageviews=settings["pageviews"], language="de", wordnet=None, min_views=50)
    assert list(german) == ["vogel"]


def test_cirrus_dumps_bring_clean_text_and_popularity(job, tmp_path):
    documents = [
        {"title": "Red kite", "text": "The red kite hunts.", "popularity_score": 2e-6, "incoming_links": 3},
        {"title": "Bird", "text": "Every bird has wings.", "popularity_score": 5e-6, "incoming_links": 2},
    ]
    lines = []
    for number, document in enumerate(documents):
        lines += [{"index": {"_type": "page", "_id": str(number)}}, {"namespace": 0, **document}]
    path = tmp_path / "enwiki-cirrussearch-content.json.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode() + b"\n"))
    found, manifest = make(job, tmp_path / "out", wikipedia=[str(path)])
    assert manifest.extra["titles_ranked_by"] == stage.BY_POPULARITY
    assert found["wings"]["source"] == "word"
    assert found["red kite"]["source"] == "bigram"
    titles, _ = make(job, tmp_path / "titles", wikipedia=[str(path)], min_count=9, bigrams=None)
    assert [(t, row["count"]) for t, row in titles.items()] == [("bird", 2), ("red kite", 3)]


def test_entries_that_never_match_are_counted(job, tmp_path):
    (tmp_path / "list.txt").write_text("Red Kite\nred-kite\n!!!\nheron\n")
    found, manifest = make(job, tmp_path / "out", tables=[str(tmp_path / "list.txt")])
    assert list(found) == ["heron", "red kite"]
    assert manifest.funnel[-1].reasons == {"duplicate": 1, "no_words": 1}


def test_no_source_and_an_empty_list_are_said(job, tmp_path, dump):
    with pytest.raises(ValueError, match="name at least one source"):
        QuerySettings()
    with pytest.raises(OpenWITError, match="the query list is empty"):
        make(job, tmp_path / "out", wikipedia=[str(dump)], min_count=99, bigrams=None, titles=False)


def test_the_bundled_lemmas_of_wordnet_are_synsets(job, tmp_path):
    found, manifest = make(job, tmp_path / "out", wordnet="builtin", max_words=2)
    assert found["hot dog"]["source"] == "synset"
    assert manifest.extra["by_source"] == {"synset": len(found)}


def test_no_bigram_crosses_a_template(job, tmp_path):
    dump = Path(__file__).parents[3] / "data" / "cases" / "wiki-convert-template" / "dump.xml"
    found, _ = make(job, tmp_path / "out", wikipedia=[str(dump)])
    assert {"flows at", "long past", "zebra town"} <= set(found)
    assert not {"at long", "at 5", "mi km"} & set(found)


def test_a_number_of_4400_digits_in_an_entity_is_no_end_of_the_job(job, tmp_path):
    path = tmp_path / "dump.xml"
    path.write_text("<mediawiki>" + page(1, "Kite", f"red kite &amp;#{'9' * 4400}; hunts") + "</mediawiki>")
    found, _ = make(job, tmp_path / "out", wikipedia=[str(path)])
    assert {"red kite", "hunts"} <= set(found)


def test_a_list_for_metaclip_keeps_every_entry_as_it_is(job, tmp_path, dump):
    lines = [
        "Dog",
        "dog",
        "DOG",
        "U.S.",
        "dog's",
        "t-shirt",
        "tshirt",
        "x",
        "!",
        "caf\u00e9",
        "cafe\u0301",
        "42",
        "Dog",
    ]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines))
    kept, manifest = make(job, tmp_path / "kept", tables=[str(path)], match="metaclip")
    assert sorted(kept) == sorted(set(lines))
    assert manifest.funnel[-1].reasons == {"duplicate": 1}
    assert manifest.extra["match"] == "metaclip"
    assert QUERIES.notes(tmp_path / "kept" / "queries.parquet") == {"match": "metaclip"}
    folded, manifest = make(job, tmp_path / "folded", tables=[str(path)])
    assert {"dog", "u s", "dog s", "caf\u00e9"} <= set(folded) < set(kept) | {"u s", "dog s", "t shirt"}
    assert QUERIES.notes(tmp_path / "folded" / "queries.parquet") == {"match": "words"}
    titles, _ = make(job, tmp_path / "titles", wikipedia=[str(dump)], min_count=99, match="metaclip")
    assert {"Red kite", "Mercury (planet)"} <= set(titles)


@pytest.mark.skipif(not LARGE_LIST.is_file(), reason="../shared/data/queries_500k.tsv.gz is missing")
def test_a_raw_list_of_500_000_stays_500_000(job, tmp_path):
    path = tmp_path / "list.txt"
    rows = gzip.decompress(LARGE_LIST.read_bytes()).decode().splitlines()[1:]
    path.write_text("\n".join(row.partition("\t")[0] for row in rows))
    _, manifest = make(job, tmp_path / "out", tables=[str(path)], match="metaclip")
    assert (manifest.funnel[-1].rows_in, manifest.funnel[-1].rows_out) == (500_000, 500_000)
