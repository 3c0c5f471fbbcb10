import json

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from support.survivors import survivor

from openwit.pipeline.dataset.sample import sample_documents, sample_keys, sample_rows
from openwit.schemas.tables.images import SURVIVORS
from openwit.schemas.tables.samples import SAMPLES

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def table_of(rows):
    return pa.Table.from_pylist([{"source_row": 0, **row} for row in rows], SURVIVORS.arrow)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), _TEXT), min_size=1, max_size=8), st.data())
def test_columns_say_what_rows_say(drawn, data):
    rows = []
    for number, (texts, text) in enumerate(drawn):
        row = survivor(number, text.encode(), texts)
        row["pairs"][0]["text"] = text
        row["pairs"][-1]["priority"] = data.draw(st.floats(0, 1))
        rows.append(row)
    keys = sample_keys(7, 3, len(rows))
    samples = sample_rows(keys, table_of(rows))
    assert samples.schema == SAMPLES.arrow
    for key, row, sample in zip(keys, rows, samples.to_pylist(), strict=True):
        pairs = row["pairs"]
        assert sample["key"] == key
        assert sample["caption"] == pairs[0]["text"]
        assert sample["texts"] == [pair["text"] for pair in pairs]
        assert sample["pair_ids"] == [pair["pair_id"].hex() for pair in pairs]
        assert sample["query_ids"] == [pair["query_ids"] for pair in pairs]
        assert sample["languages"] == [pair["language"] for pair in pairs]
        assert sample["phash"] == f"{row['phash']:016x}"
        assert (sample["sha256"], sample["url"], sample["status"]) == (row["sha256"], row["url"], "success")
    documents = sample_documents(samples)
    assert [json.loads(document) for document in documents] == samples.to_pylist()
    assert all(list(json.loads(document)) == sorted(SAMPLES.arrow.names) for document in documents)


def test_a_slice_of_a_table_gives_its_own_rows():
    rows = [survivor(n, b"%d" % n, 1 + n % 3) for n in range(9)]
    whole = sample_rows(sample_keys(0, 0, 9), table_of(rows))
    part = sample_rows(sample_keys(0, 4, 3), table_of(rows).slice(4, 3))
    assert part.to_pylist() == whole.slice(4, 3).to_pylist()
    assert sample_documents(whole.slice(4, 3)) == sample_documents(part)


def test_no_rows():
    assert sample_documents(sample_rows([], table_of([]))) == []
