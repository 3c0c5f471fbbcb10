"""The card as a whole: its numbers against a plain recount, its page against what a browser must not meet."""

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from selectolax.lexbor import LexborHTMLParser

from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages import card
from openwit.pipeline.stages.card import Card
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.card.source import CardSource
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.candidates import DROP_EXAMPLES

from .conftest import sample

SCRIPT = (Path(card.__file__).parent / "card.js.j2").read_text().strip()
_VOID = {"meta", "img", "br", "hr", "link", "input"}


def made(job, folder, **settings):
    assert Card().run(job, CardSettings(**settings), {"dataset": folder}, folder).executed
    return json.loads((folder / "card.json").read_text()), (folder / "card.html").read_text()


def rows_of(folder):
    manifest = DatasetManifest.load(folder)
    return [row for shard in manifest.shards for row in pq.read_table(folder / shard.metadata.path).to_pylist()]


def test_the_numbers_are_those_of_a_recount(job, birds):
    numbers, page = made(job, birds)
    rows = rows_of(birds)
    texts = [text for row in rows for text in row["texts"]]
    assert numbers["images"]["n"] == len(rows)
    assert numbers["texts"]["n"] == len(texts)
    lengths, words = sorted(map(len, texts)), sorted(len(text.split()) for text in texts)
    for facts, values in ((numbers["texts"]["characters"], lengths), (numbers["texts"]["words"], words)):
        assert (facts["min"], facts["max"]) == (values[0], values[-1])
        assert facts["median"] == values[(len(values) - 1) // 2]
        assert facts["mean"] == round(sum(values) / len(values), 2)
        assert sum(bar["n"] for bar in facts["bars"]) == len(values)
    languages = Counter(language or "(not identified)" for row in rows for language in row["languages"])
    assert {bar["label"]: bar["n"] for bar in numbers["texts"]["languages"]} == languages
    hosts = Counter(row["url"].split("/")[2] for row in rows)
    assert {bar["label"]: bar["n"] for bar in numbers["hosts"]["top"]} == hosts
    assert (numbers["hosts"]["n"], numbers["hosts"]["holding_half"]) == (3, 2)  # 7, 4, 4 of 15
    assert (numbers["hosts"]["images"], numbers["hosts"]["without_address"]) == (15, 0)
    stated = [licence for row in rows for licence in row["licenses"]]
    assert numbers["licences"]["none_stated"] == stated.count(None)
    assert numbers["licences"]["with_page"] == sum(page is not None for row in rows for page in row["page_urls"])
    landscape = sum(row["original_width"] > 1.05 * row["original_height"] for row in rows)
    shapes = {bar["label"]: bar["n"] for bar in numbers["images"]["shapes"]}
    assert sum(shapes.values()) == len(rows)
    assert sum(n for label, n in shapes.items() if label.startswith("landscape")) == landscape
    assert sum(map(sum, numbers["images"]["served"]["width_by_height"])) == len(rows)
    assert numbers["duplicates"]["copies"] == sum(row["duplicates"] for row in rows)
    held = Counter(query for row in rows for ids in row["query_ids"] for query in ids)
    assert {row["query"]: row["held"] for row in numbers["queries"]["top"]} == {
        "a": held[0], "kite": held[1], "rotmilan": held[2],
    }  # fmt: skip
    assert numbers["queries"]["limited"] == 2
    assert numbers["queries"]["matches"] == {"before": 56, "drawn": 26, "after": held.total()}
    assert numbers["funnel"] == [step.model_dump() for step in DatasetManifest.load(birds).funnel]
    for figure in ("near duplicate", "imagenet/val_1.jpg", "Rotmilan", "hashes differ in 3 bits"):
        assert figure in page


def test_downloads_by_class(job, birds):
    numbers, _ = made(job, birds)
    classes = {c["class"]: {s["status"]: s["n"] for s in c["statuses"]} for c in numbers["downloads"]["classes"]}
    assert classes == {
        "kept": {"success": 18}, "gone": {"http_not_found": 2}, "not allowed by its site": {"robots_disallowed": 1},
        "other": {"some_new_reason": 1},
    }  # fmt: skip
    assert sum(c["n"] for c in numbers["downloads"]["classes"]) == numbers["downloads"]["urls"] == 22


def test_the_flow_joins_where_each_stage_takes_up_what_the_last_let_out(job, birds):
    numbers, _ = made(job, birds)
    assert [step["stage"] for step in numbers["flow"]] == ["candidates", "select", "fetch", "dedup"]


def elements(page):
    return LexborHTMLParser(page).root.traverse()


def test_the_page_loads_nothing_and_every_picture_has_words(job, birds):
    _, page = made(job, birds)
    ids, targets = set(), set()
    for node in elements(page):
        assert node.tag not in ("iframe", "object", "embed", "link", "base", "form")
        assert node.tag != "script" or (node.attributes == {} and node.text().strip() == SCRIPT)
        attributes = node.attributes
        assert not any(name.startswith("on") for name in attributes)
        assert "srcset" not in attributes
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/jpeg;base64,")
            assert attributes.get("alt")
        if node.tag == "a":
            href = attributes["href"]
            assert href.startswith(("#", "http://", "https://"))
            targets.add(href) if href.startswith("#") else None
        if "id" in attributes:
            assert attributes["id"] not in ids
            ids.add(attributes["id"])
        assert "url(" not in (attributes.get("style") or "")
    assert {target[1:] for target in targets} == ids
    assert page.count("<script") == 1
    assert "url(" not in page.split("</style>")[0]
    assert "@import" not in page


def test_the_page_is_well_formed(job, birds):
    """Every tag is closed where it must be: a parser mends what is not, and the page looks otherwise than meant."""
    _, page = made(job, birds)
    assert page.startswith("<!doctype html>")
    body = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S)
    open_tags = []
    for closing, tag, rest in re.findall(r"<(/?)([a-z0-9]+)([^>]*)>", body):
        if closing:
            assert open_tags.pop() == tag
        elif tag not in _VOID and not rest.endswith("/"):
            open_tags.append(tag)
    assert open_tags == []


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\' " {{ 7*7 }} {% raw %}'


def test_hostile_texts_are_text(job, make_dataset):
    rows = [
        sample(
            n, [HOSTILE], url=f"javascript:alert({n})//" + HOSTILE, page_urls=['http://x.org/"onclick="alert(1)'],
            licenses=["javascript:alert(3)"], languages=[HOSTILE], text_sources=[HOSTILE], query_ids=[[0]],
        )
        for n in range(2)
    ]  # fmt: skip
    nothing = dict.fromkeys(("kept_text", "kept_image", "distance"))
    copy = {"reason": HOSTILE, "url": "javascript:1", "text": HOSTILE, "image": b"", "kept_url": "data:text/html,x"}
    folder = make_dataset(
        {"train": [rows]}, queries=[(HOSTILE, 2, 2)], duplicates=[{**nothing, **copy}], description=HOSTILE,
        recipe={"select": {"seed": HOSTILE}},
    )  # fmt: skip
    _, page = made(job, folder)
    for node in elements(page):
        assert node.tag != "script" or node.text().strip() == SCRIPT
        assert not any(name.startswith("on") for name in node.attributes)
        assert (node.attributes.get("href") or "#").startswith(("#", "http"))
        assert node.tag != "img" or node.attributes["src"].startswith("data:")
    assert "49" not in re.sub(r"base64,[^\"]*", "", page).split("<body>")[1].split("At a glance")[0]
    assert page.count("&lt;script&gt;alert(1)") >= 6


def test_a_very_long_text_is_cut_and_its_query_is_seen(job, make_dataset):
    rows = [sample(0, ["x" * 5000 + " the wren " + "y " * 5000], query_ids=[[0]], url="http://a.org/" + "z" * 5000)]
    folder = make_dataset({"train": [rows]}, queries=[("wren", 1, 1)])
    _, page = made(job, folder)
    assert "<mark>wren</mark>" in page
    assert (
        max(
            len(text)
            for text in re.findall(
                r">([^<]+)<", page.split("</style>")[1].split("<script>")[0].split("recipe.yaml")[0]
            )
        )
        < 1000
    )


def test_one_sample_and_nothing_else(job, make_dataset):
    folder = make_dataset({"val": [[sample(0, ["a wren"])]]})
    numbers, page = made(job, folder)
    assert (numbers["queries"], numbers["flow"], numbers["downloads"]) == ({}, [], {})
    assert numbers["licences"] == {
        "texts": 1, "none_stated": 1, "with_page": 0, "links": [{"label": "(none stated)", "n": 1}],
    }  # fmt: skip
    assert "No duplicates were found." in page
    assert 'id="balance"' not in page
    assert page.count("<img") == 1
    assert not Card().run(job, CardSettings(), {"dataset": folder}, folder).executed


def test_images_of_tables_belong_to_no_site(job, make_dataset):
    rows = [sample(n, ["a wren"], url=f"table:t.parquet#{n}") for n in range(3)]
    numbers, page = made(job, make_dataset({"train": [rows]}))
    assert numbers["hosts"] == {"n": 0, "images": 0, "without_address": 3, "holding_half": 0, "top": []}
    assert "3 images have no URL" in page


def test_no_examples_asked_for(job, birds):
    (birds / "duplicates.parquet").unlink()
    _, page = made(job, birds, examples=0, queries=0)
    assert "<img" not in page


def test_same_inputs_same_bytes_and_a_second_run_does_nothing(job, birds):
    made(job, birds)
    first = [(birds / name).read_bytes() for name in ("card.html", "card.json")]
    assert not Card().run(job, CardSettings(), {"dataset": birds}, birds).executed
    for change in ("json", "html", "duplicates", "settings"):
        settings = CardSettings()
        if change == "json":
            (birds / "card.json").write_text("not json")
        elif change == "html":
            (birds / "card.html").unlink()
        elif change == "duplicates":
            (birds / "duplicates.parquet").unlink()
        else:
            settings = CardSettings(examples=3)
        assert Card().run(job, settings, {"dataset": birds}, birds).executed
        if change in ("json", "html"):
            assert [(birds / name).read_bytes() for name in ("card.html", "card.json")] == first
    assert len((birds / "card.html").read_text()) < len(first[0])


def test_the_page_is_bounded(job, make_dataset):
    rows = [sample(n, [f"kite {n}"], query_ids=[[n % 60]]) for n in range(400)]
    queries = [(f"kite{n}", 60 - n, 10) for n in range(60)]
    folder = make_dataset({"train": [rows]}, queries=queries)
    _, page = made(job, folder, examples=200, queries=60, query_examples=20)
    assert len(page) < 8e6
    _, page = made(job, folder)
    assert len(page) < 1e6


def test_what_is_damaged_is_said_in_a_sentence(job, birds, tmp_path):
    with pytest.raises(OpenWITError, match="is not a dataset"):
        Card().run(job, CardSettings(), {"dataset": tmp_path / "nowhere"}, tmp_path / "nowhere")
    (birds / "train" / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(OpenWITError, match="00001.parquet cannot be read"):
        Card().run(job, CardSettings(), {"dataset": birds}, birds)


def test_every_status_of_a_download_has_its_class_and_meaning():
    from openwit.pipeline.images.process import ImageReason
    from openwit.pipeline.stages.card.downloads import CLASS_OF
    from openwit.pipeline.stages.meanings import meanings

    known = meanings()
    for status in (*FetchStatus, *ImageReason):
        assert status.value in CLASS_OF
        assert status.meaning
        assert status is FetchStatus.SUCCESS or known[status.value]


def test_the_recipe_on_the_page_is_one_that_wit_build_reads(make_dataset):
    import yaml

    from openwit.pipeline.stages.candidates.settings import CandidateSettings
    from openwit.pipeline.stages.card.rebuild import recipe_yaml
    from openwit.pipeline.stages.queries.settings import QuerySettings

    recipe = Recipe.standard(
        name="r", queries=QuerySettings(tables=["q.txt"]), candidates=CandidateSettings(inputs=["a.parquet"])
    )
    stages = {step.name: step.settings.model_dump(mode="json") for step in recipe.steps if step.name != "card"}
    rows = {"train": [[sample(0, ["a"])]]}
    source = CardSource(make_dataset(rows, name="r", recipe=stages))
    text, whole = recipe_yaml(source.manifest)
    assert whole
    assert Recipe.parse(yaml.safe_load(text)) == recipe
    source = CardSource(make_dataset(rows, name="s", recipe={"shard": {}}))
    assert not recipe_yaml(source.manifest)[1]


def test_a_dataset_behind_a_url_has_the_same_card(job, birds):
    made(job, birds)
    local = [(birds / name).read_bytes() for name in ("card.html", "card.json")]
    for name in ("card.html", "card.json"):
        (birds / name).unlink()
    assert Card().run(job, CardSettings(), {"dataset": f"file://{birds}"}, f"file://{birds}").executed
    assert [(birds / name).read_bytes() for name in ("card.html", "card.json")] == local
    assert not Card().run(job, CardSettings(), {"dataset": f"file://{birds}"}, f"file://{birds}").executed


DROPS = [
    ("candidates", "too_short", "http://a.org/1.jpg", "ab", None),
    ("candidates", "too_short", "http://a.org/2.jpg", "cd", "2 characters"),
    ("fetch", "http_not_found", "http://a.org/gone.jpg", "a wren", "404"),
    ("fetch", "of_another_release", "javascript:alert(1)", HOSTILE, HOSTILE),
]


def test_examples_of_dropped_pairs_are_shown_as_text(job, birds):
    rows = [dict(zip(DROP_EXAMPLES.arrow.names, drop, strict=True)) for drop in DROPS]
    DROP_EXAMPLES.write(birds / "drops.parquet", pa.Table.from_pylist(rows, schema=DROP_EXAMPLES.arrow))
    _, page = made(job, birds)
    section = LexborHTMLParser(page.split('id="dropped"')[1].split("</section>")[0])
    shown = [node.text(separator="|").strip() for node in section.css(".drop")]
    assert shown[:3] == [
        "ab|http://a.org/1.jpg",
        "cd|http://a.org/2.jpg|2 characters",
        "a wren|http://a.org/gone.jpg|404",
    ]
    assert [node.text() for node in section.css("summary b")] == ["too short", "http not found", "of another release"]
    assert not section.css("a")
    assert not section.css("script")


def test_every_reader_finds_what_a_script_hides(job, birds):
    """Without scripts everything is there, and nothing that needs one is."""
    _, page = made(job, birds)
    tree = LexborHTMLParser(page)
    assert "hidden" in tree.css_first(".tools").attributes
    assert len(tree.css("[hidden]")) == 1
    assert all(node.css_first("thead th") for node in tree.css("table.data"))
    assert not [cell for cell in tree.css("table.data td") if not cell.text().strip()]
    rows = {row.css_first("td").text(): row.attributes.get("class") for row in tree.css(".scroll tbody tr")}
    assert rows == {"a": "stop", "kite": None, "rotmilan": None}


def test_risks_are_counted_and_what_is_not_known_is_said(job, make_dataset):
    rows = [
        sample(0, ["a woman at the sea", "write to kim@example.org"], url="http://a.de/1.jpg"),
        sample(1, ["call +49 170 1234567"], url="http://b.co.uk/1.jpg", languages=["en"]),
        sample(2, ["a bottle", "manual"], url="table:t.parquet#1", languages=["en", None]),
    ]
    numbers, page = made(job, make_dataset({"train": [rows]}))
    assert numbers["risks"] == {
        "texts_with": {"mail": 1, "number": 1, "people": 1, "unsafe": 0},
        "domains": [{"label": ".de", "n": 1}, {"label": ".uk", "n": 1}],
    }
    assert numbers["texts"]["language_codes"] == [{"label": "en", "n": 2}]
    section = page.split('id="risks"')[1].split("</section>")[0]
    for words in (
        "1 of 5 texts (20.0 %)",
        "e-mail address",
        ".de 1, .uk 1",
        "en 40.0 %",
        "No face or person",
    ):
        assert words in section
    assert section.count("Not measured:") == 5
