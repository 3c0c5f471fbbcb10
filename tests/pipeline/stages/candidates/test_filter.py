from openwit.pipeline.stages.candidates.filter import LANGUAGE, PAIR_REASONS, PairFilter
from openwit.pipeline.stages.candidates.pair import Pair, candidates_table, drops_table
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.schemas.tables.candidates import CANDIDATES, DROPS


def settings(**given):
    return CandidateSettings(inputs=["x.warc"], **given)


def pair(text, url="http://a.org/1.jpg", **columns):
    defaults = {"text_source": "alt", "image_source": "src", "archive": "x.warc", "record_offset": 0}
    return Pair(url=url, text=text, **{**defaults, **columns})


def test_every_pair_ends_in_one_of_the_two():
    found = [
        pair("A red kite &amp; its nest"), pair(""), pair("IMG_0042.jpg"), pair("a wren", url="data:x"),
        pair("a wren", split="../x"), pair("an oak", text_source="link"), pair("logo"),
    ]  # fmt: skip
    kept, dropped = PairFilter(settings(texts=["alt"])).split(found)
    assert [p.text for p in kept] == ["A red kite & its nest"]
    assert kept[0].split == "train"
    reasons = [drop.reason for drop in dropped]
    assert reasons == ["no_text", "file_name", "bad_url", "bad_split", "text_source_not_wanted", "boilerplate"]
    assert set(reasons) <= set(PAIR_REASONS)
    assert candidates_table(kept).schema == CANDIDATES.arrow
    assert drops_table(dropped).schema == DROPS.arrow


def test_a_page_tells_the_language_of_its_short_texts():
    english = settings(language={"languages": ["en"]})
    title = {"page_url": "http://a.org/", "page_title": "Stickers of animals and things to print at home"}
    german = {"page_url": "http://b.de/", "page_title": "Bilder von Tieren und Dingen für den Alltag zu Hause"}
    found = [pair("Duck", **title), pair("Hamburger", **german, record_offset=9)]
    kept, dropped = PairFilter(english).split(found)
    assert [p.text for p in kept] == ["Duck"]
    assert [(d.pair.text, d.reason) for d in dropped] == [("Hamburger", LANGUAGE)]
    alone = settings(language={"languages": ["en"], "page_context": False})
    assert PairFilter(alone).split([pair("Duck", **title)])[0] == []


def test_ftfy_repairs_where_it_is_asked_for():
    broken = "A CafÃ© in the old town"
    assert PairFilter(settings()).split([pair(broken)])[0][0].text == broken
    assert PairFilter(settings(ftfy=True)).split([pair(broken)])[0][0].text == "A Café in the old town"


def test_held_out_hosts_and_shares():
    pair_filter = PairFilter(settings(held_out={"test": ["gallery.org"]}, held_out_share={"val": 0.25}))
    found = [pair("a wren", url=f"http://x{n % 7}.org/{n}.jpg") for n in range(400)]
    kept, _ = pair_filter.split([*found, pair("a wren", url="http://img.gallery.org/1.jpg")])
    assert kept[-1].split == "test"
    share = sum(p.split == "val" for p in kept) / 400
    assert 0.17 < share < 0.33
    again, _ = pair_filter.split([pair("an oak", url="http://x0.org/0.jpg")])
    assert again[0].split == kept[0].split  # the image decides, not the text


def test_tables_are_cleaned_but_not_filtered_unless_asked():
    texts = ["IMG_0042.jpg", "logo", "12", "", "A &amp; B"]

    def kept(source, **filters):
        found = [pair(text, text_source=source, image_source=source) for text in texts]
        return [p.text for p in PairFilter(settings(filters=filters)).split(found)[0]]

    assert kept("table") == ["IMG_0042.jpg", "logo", "12", "A & B"]
    assert kept("table", min_characters=5) == ["IMG_0042.jpg", "A & B"]
    assert kept("alt") == kept("table", apply_to="all") == ["A & B"]
    assert kept("alt", apply_to="none") == kept("table")


def test_a_name_on_an_english_page_is_english():
    english = settings(language={"languages": ["en"]})
    page = {
        "page_url": "http://a.org/",
        "page_title": "Sweden drops its investigation into the allegation that was made, and what the court said",
    }
    found = [
        pair("Al Bawaba News", **page),
        pair("Jürgen Neuhuber", **page),
        pair("the house where he lived in the last years", **page),
    ]
    assert [p.text for p in PairFilter(english).split(found)[0]] == [p.text for p in found]
    german = {"page_url": "http://b.de/", "page_title": "Bilder von Tieren und Dingen für den Alltag zu Hause"}
    assert PairFilter(english).split([pair("Jürgen Neuhuber", **german)])[0] == []
