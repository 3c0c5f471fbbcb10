"""The select stage against its plain definition, and that its result depends on nothing but its input."""

import random
import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.rows import candidate

from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.stages.queries import Queries
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select import Select, shared_matcher
from openwit.pipeline.stages.select import match as select_match
from openwit.pipeline.stages.select import thresholds as select_thresholds
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import DROPS, SELECTED
from openwit.schemas.tables.queries import QUERIES, QUERY_COUNTS

WORDS = ["red", "kite", "heron", "a", "bird", "of", "prey", "red kite", "quartz"]


def make_rows(n, seed):
    chance = random.Random(seed)
    weights = [8, 2, 1, 20, 6, 10, 1, 0, 0, 6]
    rows = []
    for _ in range(n):
        text = " ".join(chance.choices([*WORDS[:9], "zzz"], weights, k=chance.randint(1, 4)))
        rows.append(candidate(f"http://host{chance.randint(0, 9)}.org/{chance.randint(0, n // 60)}.jpg", text))
    return rows


def plain_selection(rows, queries, cap, seed):
    """Selection as DESIGN defines it, pair by pair."""
    pool = {}
    for row in rows:
        found = [q for q, query in enumerate(queries) if f" {query} " in f" {row['text']} "]
        if found:
            pool[row["pair_id"]] = found
    hashes = query_hashes(queries)
    kept = set()
    for q in range(len(queries)):
        mine = [p for p, found in pool.items() if q in found]
        u = uniform(pair_hashes(pa.array(mine, pa.binary(16))), np.full(len(mine), hashes[q]), seed=seed)
        kept |= {mine[i] for i in np.argsort(u)[:cap]}
    return kept, pool


def selected_ids(folder):
    tables = [SELECTED.read(path) for path in sorted((folder / "selected").glob("*.parquet"))]
    return pa.concat_tables(tables).column("pair_id").to_pylist()


@pytest.mark.parametrize("cap", [3, 40, 10_000])
def test_equals_the_plain_definition(tmp_path, job, make_queries, make_candidates, cap):
    rows = make_rows(600, seed=1)
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows[:250], rows[250:400], rows[400:]])
    manifest, _ = Select().run(
        job, SelectSettings(cap=cap, seed=7), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    kept, pool = plain_selection(rows, WORDS, cap, 7)
    assert Counter(selected_ids(tmp_path / "s")) == Counter(kept)
    step = manifest.funnel[0]
    matched = sum(row["pair_id"] in pool for row in rows)
    assert step.rows_in == 600
    assert step.reasons["no_match"] == 600 - matched
    assert step.reasons["duplicate_pair"] == matched - len(pool)
    assert step.reasons.get("not_drawn", 0) == len(pool) - len(kept)
    counts = QUERY_COUNTS.read(tmp_path / "s" / "queries.parquet")
    matches = Counter(q for found in pool.values() for q in found)
    assert counts.column("pool").to_pylist() == [matches[q] for q in range(len(WORDS))]
    assert counts.column("drawn").to_pylist() == [min(matches[q], cap) for q in range(len(WORDS))]
    drops = pq.read_table(tmp_path / "s" / "drops")
    assert Counter(drops.column("reason").to_pylist()) == step.reasons
    assert all(
        "the nearest" in detail
        for detail in drops.filter(pa.compute.equal(drops["reason"], "not_drawn"))["detail"].to_pylist()
    )


def test_order_and_split_into_files_do_not_matter(tmp_path, job, make_queries, make_candidates):
    rows = make_rows(400, seed=2)
    shuffled = list(rows)
    random.Random(3).shuffle(shuffled)
    results = []
    for n, files in enumerate([[rows], [shuffled[:100], shuffled[100:150], [], shuffled[150:]]]):
        queries = make_queries(tmp_path / f"q{n}", WORDS)
        source = make_candidates(tmp_path / f"c{n}", files)
        Select().run(job, SelectSettings(cap=5), {"candidates": [source], "queries": queries}, tmp_path / f"s{n}")
        results.append(sorted(selected_ids(tmp_path / f"s{n}")))
    assert results[0] == results[1]
    assert len(results[0]) > 20


def test_worker_processes_do_not_matter(tmp_path, job, make_queries, make_candidates):
    rows = make_rows(300, seed=6)
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows[:100], rows[100:]])
    for name, engine in (("one", job.engine), ("two", make_engine("local", 2))):
        Select().run(
            replace(job, engine=engine),
            SelectSettings(cap=5),
            {"candidates": [source], "queries": queries},
            tmp_path / name,
        )
    for path in sorted((tmp_path / "one" / "selected").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "selected" / path.name).read_bytes()


def test_a_query_that_sent_too_few_is_asked_again(tmp_path, job, make_queries, make_candidates, monkeypatch):
    rows = make_rows(500, seed=4)
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows])
    plain = select_thresholds.send_bounds
    widths = []

    def narrow(pool, cap, widen):
        widths.append(widen)
        return plain(pool, cap, widen=widen / 50)

    monkeypatch.setattr(select_thresholds, "send_bounds", narrow)
    Select().run(job, SelectSettings(cap=10, seed=7), {"candidates": [source], "queries": queries}, tmp_path / "s")
    assert set(selected_ids(tmp_path / "s")) == plain_selection(rows, WORDS, 10, 7)[0]
    assert len(widths) > 1


def test_one_text_an_image(tmp_path, job, make_queries, make_candidates):
    rows = [candidate("http://a.org/1.jpg", text) for text in ("red", "red kite of prey", "kite")]
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows])
    manifest, _ = Select().run(
        job, SelectSettings(texts_per_image="longest"), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    table = SELECTED.read(tmp_path / "s" / "selected" / "00000.parquet")
    assert table.column("text").to_pylist() == ["red kite of prey"]
    assert manifest.funnel[0].reasons == {"other_text_of_image": 2}


def test_all_urls_of_a_host_share_a_bucket(tmp_path, job, make_queries, make_candidates):
    rows = [candidate(f"http://{host}/{n}.jpg", "red") for n in range(5) for host in ("a.org", "b.org:81", "b.org")]
    queries = make_queries(tmp_path / "q", ["red"])
    Select().run(
        job,
        SelectSettings(),
        {"candidates": [make_candidates(tmp_path / "c", [rows])], "queries": queries},
        tmp_path / "s",
    )
    table = SELECTED.read(tmp_path / "s" / "selected" / "00000.parquet").to_pylist()
    assert len({row["host_bucket"] for row in table if "a.org" in row["url"]}) == 1
    assert len({row["host_bucket"] for row in table if "b.org" in row["url"]}) == 1


def test_a_crawl_without_a_match_is_said(tmp_path, job, make_queries, make_candidates):
    queries = make_queries(tmp_path / "q", ["albatross"])
    source = make_candidates(tmp_path / "c", [make_rows(20, seed=5)])
    with pytest.raises(OpenWITError, match="no caption of .* matches any of the 1 queries"):
        Select().run(job, SelectSettings(), {"candidates": [source], "queries": queries}, tmp_path / "s")


def test_added_candidates_give_what_all_at_once_give_without_matching_the_old_again(
    tmp_path, job, make_queries, make_candidates, monkeypatch
):
    rows = make_rows(600, seed=5)
    queries = make_queries(tmp_path / "q", WORDS)
    old = make_candidates(tmp_path / "old", [rows[:200], rows[200:400]])
    new = make_candidates(tmp_path / "new", [rows[400:]])
    settings = SelectSettings(cap=20)
    Select().run(job, settings, {"candidates": [old], "queries": queries}, tmp_path / "first")
    whole, _ = Select().run(
        job,
        settings,
        {"candidates": [make_candidates(tmp_path / "all", [rows])], "queries": queries},
        tmp_path / "whole",
    )
    matched = []
    real = select_match.Matcher.match

    def listen(self, texts):
        matched.append(len(texts))
        return real(self, texts)

    monkeypatch.setattr(select_match.Matcher, "match", listen)
    for module in (select_match, shared_matcher):  # it matches a few captions of its own
        monkeypatch.setattr(module, "compile_matcher", lambda *_: None)
    added, _ = Select().run(
        job, settings, {"candidates": [old, new], "queries": queries, "reuse": tmp_path / "first"}, tmp_path / "second"
    )
    assert matched == [200]
    assert sorted(selected_ids(tmp_path / "second")) == sorted(selected_ids(tmp_path / "whole"))
    assert added.extra == whole.extra
    assert added.history[-1].funnel[-1].rows_in == 600
    counts = [QUERY_COUNTS.read(tmp_path / name / "queries.parquet") for name in ("second", "whole")]
    assert counts[0].equals(counts[1])
    # another cap matches nothing again; another list everything
    matched.clear()
    Select().run(
        job,
        SelectSettings(cap=7),
        {"candidates": [old, new], "queries": queries, "reuse": tmp_path / "second"},
        tmp_path / "third",
    )
    assert matched == []
    others = make_queries(tmp_path / "q2", WORDS[:4])
    Select().run(
        job, settings, {"candidates": [old, new], "queries": others, "reuse": tmp_path / "second"}, tmp_path / "fourth"
    )
    assert matched == [200, 200, 200]


def test_t_by_the_number_of_pairs_wanted(tmp_path, job, make_queries, make_candidates):
    rows = make_rows(3000, seed=6)
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows[:1000], rows[1000:]])
    manifest, _ = Select().run(
        job, SelectSettings(target_pairs=500), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    kept = len(selected_ids(tmp_path / "s"))
    assert 440 < kept < 560
    assert abs(manifest.extra["expected_pairs"] - kept) < 60
    assert manifest.extra["cap_chosen_by"] == "target of 500 pairs"
    everything, _ = Select().run(
        job, SelectSettings(target_pairs=10**6), {"candidates": [source], "queries": queries}, tmp_path / "all"
    )
    assert len(selected_ids(tmp_path / "all")) == everything.extra["pairs_in_pool"]


def test_t_by_the_share_of_the_tail(tmp_path, job, make_queries, make_candidates):
    rows = make_rows(3000, seed=6)
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [rows])
    manifest, _ = Select().run(
        job, SelectSettings(tail_share=0.1), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    pool = QUERY_COUNTS.read(tmp_path / "s" / "queries.parquet").column("pool").to_numpy()
    cap = manifest.extra["cap"]
    assert cap in pool
    assert pool[pool < cap].sum() < 0.1 * pool.sum() <= pool[pool <= cap].sum()
    with pytest.raises(ValueError, match="set one of them"):
        SelectSettings(tail_share=0.1, target_pairs=5)


def test_near_equal_texts_of_an_image(tmp_path, job, make_queries, make_candidates):
    texts = ["A red kite", "red kite, a!", "a red red kite", "a red kite flying", "the heron"]
    rows = [candidate("http://a.org/1.jpg", text) for text in texts]
    rows.append(candidate("http://a.org/2.jpg", "kite: a red"))
    queries = make_queries(tmp_path / "q", ["red", "heron"])
    source = make_candidates(tmp_path / "c", [rows])
    manifest, _ = Select().run(
        job, SelectSettings(near_equal_texts="drop"), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    tables = [SELECTED.read(path) for path in sorted((tmp_path / "s" / "selected").glob("*.parquet"))]
    assert sorted(pa.concat_tables(tables).column("text").to_pylist()) == [
        "a red kite flying", "a red red kite", "kite: a red", "the heron",
    ]  # fmt: skip
    # "A red kite" and "red kite, a!" are one pair each by their normalised texts
    assert manifest.funnel[-1].reasons == {"near_equal_text": 2}


def test_the_reason_says_how_near_a_pair_came(tmp_path, job, make_queries, make_candidates):
    rows = [candidate(f"http://a.org/{n}.jpg", "a red kite") for n in range(50)]
    queries = make_queries(tmp_path / "q", ["red", "kite"])
    Select().run(
        job,
        SelectSettings(cap=5),
        {"candidates": [make_candidates(tmp_path / "c", [rows])], "queries": queries},
        tmp_path / "s",
    )
    drops = DROPS.read(next((tmp_path / "s" / "drops").glob("*.parquet"))).to_pylist()
    assert drops
    for drop in drops:
        found = re.fullmatch(
            r"matched 2 queries, the nearest '(red|kite)' at (\S+) times its threshold", drop["detail"]
        )
        assert float(found[2]) > 1


@pytest.mark.parametrize(
    "text",
    ["red kite " * 120_000, "", "\udcff".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), "\0red\0"],
)
def test_odd_captions_get_an_answer(tmp_path, job, make_queries, make_candidates, text):
    rows = [candidate("http://a.org/1.jpg", text), candidate("http://a.org/2.jpg", "a red kite")]
    queries = make_queries(tmp_path / "q", ["red", "red kite red"])
    source = make_candidates(tmp_path / "c", [rows])
    manifest, _ = Select().run(
        job, SelectSettings(cap=10**9), {"candidates": [source], "queries": queries}, tmp_path / "s"
    )
    kept = len(selected_ids(tmp_path / "s"))
    assert kept == 1 + ("red" in text)
    assert manifest.funnel[-1].rows_in == 2


def test_a_list_may_hold_the_same_query_twice_and_ones_that_never_match(tmp_path, job, make_queries, make_candidates):
    rows = [candidate(f"http://a.org/{n}.jpg", "a red kite") for n in range(4)]
    queries = make_queries(tmp_path / "q", ["red", "RED!", "", "…", "kite"])
    source = make_candidates(tmp_path / "c", [rows])
    Select().run(job, SelectSettings(cap=3), {"candidates": [source], "queries": queries}, tmp_path / "s")
    counts = QUERY_COUNTS.read(tmp_path / "s" / "queries.parquet")
    assert counts.column("pool").to_pylist() == [4, 4, 0, 0, 4]
    assert max(counts.column("drawn").to_pylist()) <= 3


def test_folders_that_hold_no_such_stage_are_said(tmp_path, job, make_queries, make_candidates):
    queries = make_queries(tmp_path / "q", WORDS)
    source = make_candidates(tmp_path / "c", [make_rows(20, seed=1)])
    with pytest.raises(OpenWITError, match="holds no finished 'candidates' stage"):
        Select().run(job, SelectSettings(), {"candidates": [tmp_path / "gone"], "queries": queries}, tmp_path / "s")
    with pytest.raises(OpenWITError, match="gone.parquet does not exist"):
        Select().run(
            job, SelectSettings(), {"candidates": [source], "queries": tmp_path / "gone.parquet"}, tmp_path / "s"
        )
    with pytest.raises(OpenWITError, match="expected 'select'"):
        Select().run(
            job, SelectSettings(), {"candidates": [source], "queries": queries, "reuse": source}, tmp_path / "s"
        )


# research/anchors_data.md, section 4.3: what MetaCLIP's own function gave
ENTRIES = [
    "dog",
    "Dog",
    "hot dog",
    "dog house",
    "U.S.",
    "Mr. Robot",
    "dog's",
    "t-shirt",
    "42",
    "rock and roll",
    "rock",
]
GOLDEN = {
    "hot dog house": ["dog", "hot dog", "dog house"], "dog.": ["dog"], "dog,cat": ["dog"], "dog?house": ["dog"],
    "`dog`": ["dog"], "hot.dog": ["dog"], "dog's": ["dog's"], "(dog)": [], '"dog"': [], "dogs": [], "dog-house": [],
    "dog_house": [], "rock/roll": [], "dog\u00a0": [], "a  dog": ["dog"], "hot  dog": ["dog"],
    "hot\tdog": ["dog", "hot dog"], "U.S.": [], "the U.S. flag": [], "Mr. Robot": [], "Rock And Roll": [],
    "42!": ["42"], "a Dog": ["Dog"], "a t-shirt": ["t-shirt"],
}  # fmt: skip


@pytest.mark.parametrize("balance", ["cap", "probabilistic"])
def test_parity_with_metaclip_from_the_list_to_the_counts(tmp_path, job, make_candidates, balance):
    (tmp_path / "list.txt").write_text("\n".join(ENTRIES))
    Queries().run(job, QuerySettings(tables=[str(tmp_path / "list.txt")], match="metaclip"), {}, tmp_path / "queries")
    rows = [candidate(f"http://a.org/{n}.jpg", text) for n, text in enumerate(GOLDEN)]
    inputs = {"candidates": make_candidates(tmp_path / "c", [rows]), "queries": tmp_path / "queries"}
    Select().run(job, SelectSettings(match="metaclip", balance=balance), inputs, tmp_path / "out")
    counts = QUERY_COUNTS.read(tmp_path / "out" / "queries.parquet").to_pylist()
    expected = Counter(entry for found in GOLDEN.values() for entry in found)
    assert {row["query"]: row["pool"] for row in counts} == {entry: expected[entry] for entry in ENTRIES}
    assert len(selected_ids(tmp_path / "out")) == sum(map(bool, GOLDEN.values()))


@pytest.mark.parametrize("made", ["words", "metaclip", None, "earlier"])
@pytest.mark.parametrize("match", ["words", "metaclip"])
@pytest.mark.parametrize("balance", ["cap", "probabilistic"])
def test_a_list_for_another_way_of_matching_is_refused(
    tmp_path, job, make_queries, make_candidates, made, match, balance
):
    rows = [candidate(f"http://a.org/{n}.jpg", text) for n, text in enumerate(["Red Kite", "red kite", "heron"])]
    candidates = make_candidates(tmp_path / "c", [rows])
    if made in ("words", "metaclip"):
        (tmp_path / "list.txt").write_text("Red Kite\nred kite")
        settings = QuerySettings(tables=[str(tmp_path / "list.txt")], match=made)
        Queries().run(job, settings, {}, tmp_path / "queries")
        queries = tmp_path / "queries"
    else:
        queries = make_queries(tmp_path / "queries", ["red kite"])
        if made is None:  # a list of other software
            queries = tmp_path / "own.parquet"
            pq.write_table(
                QUERIES.read(tmp_path / "queries" / "queries.parquet").replace_schema_metadata(None), queries
            )
    run = partial(
        Select().run, job, SelectSettings(match=match, balance=balance), {"candidates": candidates, "queries": queries}
    )
    if made is not None and match != ("words" if made == "earlier" else made):
        with pytest.raises(OpenWITError, match=f"make it with queries.match: {match}"):
            run(tmp_path / "out")
        return
    run(tmp_path / "out")
    assert len(selected_ids(tmp_path / "out")) == (1 if match == "metaclip" and made is None else 2)
