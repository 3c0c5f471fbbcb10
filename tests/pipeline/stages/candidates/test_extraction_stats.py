from collections import Counter

from openwit.pipeline.stages.candidates.extraction_stats import FOUND, KEPT, SourceStats, count_pairs, extraction_stats
from openwit.pipeline.stages.candidates.pair import TABLE, Pair


def pair(image_source, text_source, relative):
    return Pair("http://a/1", "t", text_source, image_source, "x.warc", 0, relative=relative)


def test_the_kinds_add_up_to_the_pairs():
    found = [pair("src", "alt", True), pair("src", "title", True), pair("lazy", "alt", False)]
    counters = Counter({"other": 3})
    count_pairs(counters, FOUND, found)
    count_pairs(counters, KEPT, found[:1])
    assert extraction_stats(counters) == [
        SourceStats("image", "src", 2, 1), SourceStats("image", "lazy", 1, 0),
        SourceStats("text", "alt", 2, 1), SourceStats("text", "title", 1, 0),
        SourceStats("reference", "relative", 2, 1), SourceStats("reference", "absolute", 1, 0),
    ]  # fmt: skip


def test_tables_have_no_yield():
    counters = Counter()
    count_pairs(counters, FOUND, [pair(TABLE, TABLE, False)])
    assert extraction_stats(counters) == []
