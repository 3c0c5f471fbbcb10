from collections import Counter

from openwit.pipeline.stages.candidates.extraction_stats import FOUND, KEPT, Yield, count_yield, yields
from openwit.pipeline.stages.candidates.pair import TABLE, Pair


def pair(image_source, text_source, relative):
    return Pair("http://a/1", "t", text_source, image_source, "x.warc", 0, relative=relative)


def test_the_kinds_add_up_to_the_pairs():
    found = [pair("src", "alt", True), pair("src", "title", True), pair("lazy", "alt", False)]
    counters = Counter({"other": 3})
    count_yield(counters, FOUND, found)
    count_yield(counters, KEPT, found[:1])
    assert yields(counters) == [
        Yield("image", "src", 2, 1), Yield("image", "lazy", 1, 0),
        Yield("text", "alt", 2, 1), Yield("text", "title", 1, 0),
        Yield("reference", "relative", 2, 1), Yield("reference", "absolute", 1, 0),
    ]  # fmt: skip


def test_tables_have_no_yield():
    counters = Counter()
    count_yield(counters, FOUND, [pair(TABLE, TABLE, False)])
    assert yields(counters) == []
