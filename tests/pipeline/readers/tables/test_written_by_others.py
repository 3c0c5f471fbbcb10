"""Tables as other programs write them: charsets, delimiters, quotes, lax JSON, partitions, null columns."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.tables.files import BROKEN_LINE
from openwit.pipeline.readers.tables.open_quotes import ClosedQuotes
from openwit.pipeline.readers.tables.partitions import partitions_of
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import open_table
from openwit.schemas.common.errors import DataError

CASES = Path(__file__).parents[3] / "data" / "cases"
DOG, CATS, BUS = "a small dog runs on the beach", "two cats sleep on a sofa", "a red bus in the rain"
CAFE = "un café très agréable près de la plage"


def texts_of(path, columns=None, count=None):
    reader = open_table(path, columns, **({} if count is None else {"count": count}))
    return [text for batch in reader.batches() for row in batch.texts.to_pylist() for text in row]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("csv-shapes/bom.csv", [DOG]),
        ("csv-shapes/comma_url.csv", ["a classic car at a show"]),
        ("csv-shapes/cr_only.csv", [DOG, CATS]),
        ("csv-shapes/index_col.csv", [DOG, CATS]),
        ("csv-shapes/latin1.csv", [CAFE]),
        ("csv-shapes/na.csv", ["NA", "null", "None", "nan"]),
        ("csv-shapes/newline.csv", ['a small dog\nruns on the "warm" beach', CATS]),
        ("csv-shapes/semicolon.csv", [DOG]),
        ("csv-shapes/spaces_in_header.csv", [f" {DOG}"]),
        ("csv-shapes/strayquote.csv", ['a 5" nail in a board', "Big dog runs on the beach", CATS]),
        ("csv-shapes/utf16.csv", [DOG]),
        ("jsonl-bom/pairs.jsonl", [DOG, CATS, BUS]),
        ("jsonl-nan/pairs.jsonl", [DOG, CATS, BUS]),
        ("jsonl-surrogate/pairs.jsonl", [f"{DOG} 🐶", f"{CATS} ", f"{BUS[:-4]}rain \u2028 at night"]),
        ("tsv-latin1/pairs.tsv", [CAFE]),
        ("utf16-tables/pairs.tsv", [DOG]),
        ("utf16-tables/pairs.jsonl", [DOG]),
    ],
)
def test_no_text_is_lost_or_changed(name, texts):
    found = texts_of(CASES / name)
    assert found[: len(texts)] == texts
    assert len(found) == len(texts) or name.startswith(("csv-shapes", "utf16", "tsv"))
    assert not any("\ufffd" in text for text in found)


def test_a_quote_that_is_never_closed_costs_its_line_only():
    count = ReasonCounter()
    found = texts_of(CASES / "csv-shapes/unterminated.csv", count=count)
    lines = (CASES / "csv-shapes/unterminated.csv").read_text().splitlines()
    assert len(found) == len(lines) - 2
    assert count.counts[BROKEN_LINE] == 1
    assert count.details[BROKEN_LINE] == ["line 2: a quote is opened and never closed"]


def test_a_tsv_of_a_csv_module_is_unquoted():
    count = ReasonCounter()
    found = texts_of(CASES / "tsv-csv-quoted/wit_like.tsv", count=count)
    assert 'A tall tower with a bell called "Old Tom" on top' in found
    assert not any(text.startswith('"') and text.endswith('"') for text in found)
    assert count.counts[BROKEN_LINE] == 0
    assert any("unquoted" in note for note in count.details["read_under_a_guess"])


@pytest.mark.parametrize("quotes", ["auto", "text", "quoted"])
def test_quotes_of_a_plain_tsv_are_text(tmp_path, quotes):
    path = tmp_path / "t.tsv"
    path.write_text('url\ttext\nu1\t"Big" dog runs\nu2\ta 5" nail\nu3\t"so it goes\n')
    found = texts_of(path, TableColumns(quotes=quotes))
    assert found == (
        ['"Big" dog runs', 'a 5" nail', '"so it goes'] if quotes != "quoted" else ["Big dog runs", 'a 5" nail']
    )


DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
TEXT = st.text(st.sampled_from("ab é,;|\t\"'\n"), min_size=1, max_size=12).filter(lambda text: text.strip())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TEXT, min_size=1, max_size=6),
    st.sampled_from(sorted(DELIMITERS)),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
)
def test_what_a_csv_module_writes_is_read_back(tmp_path_factory, texts, delimiter, codec):
    written = io.StringIO(newline="")
    rows = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    rows.writerow(["url", "text", "id"])
    rows.writerows(["http://a.example/x", text, "n"] for text in texts)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(written.getvalue().encode(codec))
    assert texts_of(path) == texts
    assert texts_of(path, TableColumns(delimiter=DELIMITERS[delimiter])) == texts


@pytest.mark.parametrize("codec", ["cp1252", "utf-8", "utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.csv.gz", "t.jsonl.gz"])
def test_every_charset_in_every_format(tmp_path, codec, name):
    import gzip

    texts = ["café au lait", "ein Mädchen mit Hut", "plain words"]
    if ".jsonl" in name:
        text = "\n".join(
            json.dumps({"url": f"u{n}", "text": each}, ensure_ascii=False) for n, each in enumerate(texts)
        )
    else:
        mark = "," if ".csv" in name else "\t"
        text = "\n".join([f"url{mark}text", *(f"u{n}{mark}{each}" for n, each in enumerate(texts))])
    data = (text + "\n").encode(codec)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert texts_of(tmp_path / name) == texts


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
@pytest.mark.parametrize(("codec", "text"), [("cp1251", "Красная площадь зимой"), ("cp1250", "stary młyn nad rzeką")])
def test_charsets_of_other_scripts(tmp_path, name, codec, text):
    if name == "t.jsonl":
        lines = [json.dumps({"url": f"u{n}", "text": text}, ensure_ascii=False) for n in range(4)]
    else:
        mark = "," if name == "t.csv" else "\t"
        lines = [f"url{mark}text", *(f"u{n}{mark}{text}" for n in range(4))]
    (tmp_path / name).write_bytes("\n".join(lines).encode(codec))
    count = ReasonCounter()
    assert texts_of(tmp_path / name, count=count) == [text] * 4
    assert any(f"read as {codec}" in note for note in count.details["read_under_a_guess"])


def closed_quotes(data, size=1 << 18):
    dropped = []
    stream = ClosedQuotes(io.BytesIO(data), ",", dropped.append)
    return io.BufferedReader(stream, size).read(), dropped


@pytest.mark.parametrize(
    ("data", "kept", "dropped"),
    [
        (b'a,b\n1,"x\n2,y\n3,z\n', b"a,b\n2,y\n3,z\n", [2]),
        (b'a,b\n1,"x\n2,y\n3,"z"\n4,w\n', b'a,b\n2,y\n3,"z"\n4,w\n', [2]),
        (b'a,b\n1,"x\ny"\n2,z\n', b'a,b\n1,"x\ny"\n2,z\n', []),
        (b'a,b\n1,"x ""y""\nz"\n', b'a,b\n1,"x ""y""\nz"\n', []),
        (b'a,b\n1,"x\nh://2,y\n3,nail 5"\n4,w\n', b'a,b\nh://2,y\n3,nail 5"\n4,w\n', [2]),
        (b'a,b\n1,"x\n2,"y\n3,"z\n', b"a,b\n", [2, 3, 4]),
        (b'a,b\r1,"x\ry"\r2,z\r', b'a,b\r1,"x\ry"\r2,z\r', []),
        (b"", b"", []),
        (b'"', b"", [1]),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_records_with_open_quotes(data, kept, dropped, size):
    assert closed_quotes(data, size) == (kept, dropped)


def test_work_on_open_quotes_grows_with_the_input(monkeypatch):
    from openwit.pipeline.readers.tables import open_quotes

    asked = []
    plain = open_quotes._state
    monkeypatch.setattr(
        open_quotes, "_state", lambda *args, **keys: asked.append(len(args[0])) or plain(*args, **keys)
    )
    for shape in (b'1,"x\n', b'1,"x\n' + b"2,y\n" * 30, b'1,"""\n', b'"a"",b\n', b'1,"x\n2,y" z\n'):
        scanned = []
        for times in (500, 1000, 2000):
            asked.clear()
            closed_quotes(b"a,b\n" + shape * times)
            scanned.append(sum(asked))
        assert scanned[2] <= 2.2 * scanned[1] + 1000 <= 4.84 * scanned[0] + 4000


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("pairs/split=test/part-0.parquet", {"split": "test"}),
        ("s3://b/split=val/language=de/x.csv?v=1", {"split": "val", "language": "de"}),
        ("a/split=__HIVE_DEFAULT_PARTITION__/x.csv", {}),
        ("a/name=caf%C3%A9/x.csv", {"name": "café"}),
        ("split=test", {}),
        ("a=b=c/x.csv", {"a": "b=c"}),
    ],
)
def test_folders_name_values(path, found):
    assert partitions_of(path) == found


@pytest.mark.parametrize("form", ["parquet", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize("named", [False, True])
def test_partitions_are_columns_in_every_format(tmp_path, form, named):
    folder = tmp_path / "fold=val" / "split=test" / "language=de"
    folder.mkdir(parents=True)
    path = folder / f"p.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"url": ["u"], "text": ["t"]}), path)
    elif form == "jsonl":
        path.write_text('{"url": "u", "text": "t"}\n')
    else:
        path.write_text("url,text\nu,t\n".replace(",", "," if form == "csv" else "\t"))
    reader = open_table(path, TableColumns(split="fold") if named else None)
    [batch] = reader.batches()
    assert batch.split.to_pylist() == ["val" if named else "test"]
    assert batch.language.to_pylist() == ["de"]


def test_a_column_of_the_file_decides_over_a_folder(tmp_path):
    (tmp_path / "split=test").mkdir()
    path = tmp_path / "split=test" / "p.csv"
    path.write_text("url,text,split\nu,t,val\n")
    [batch] = open_table(path).batches()
    assert batch.split.to_pylist() == ["val"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("url", pa.null()),
        ("text", pa.null()),
        ("text", pa.list_(pa.null())),
        ("split", pa.null()),
        ("license", pa.null()),
    ],
)
def test_a_column_without_a_type_in_one_part(tmp_path, column, kind):
    table = {"url": pa.array(["u"]), "text": pa.array(["t"]), column: pa.array([None], kind)}
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    [batch] = open_table(tmp_path / "p.parquet").batches()
    assert len(batch) == 1
    assert batch.texts.to_pylist() == [[] if column == "text" else ["t"]]


def test_a_struct_with_paths_only_is_refused_in_one_sentence(tmp_path):
    for path in (CASES / "hf-image-path-only/pairs.parquet", tmp_path / "untyped.parquet"):
        if path.name == "untyped.parquet":
            pq.write_table(pa.table({"image": [{"bytes": None, "path": "a.jpg"}], "caption": ["x"]}), path)
        with pytest.raises(DataError, match="column 'image' holds paths of images without their bytes: write"):
            open_table(path)


def test_numbers_are_texts_where_the_user_names_their_column(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"url": ["u", "v"], "text": [7, None]}), path)
    assert texts_of(path, TableColumns(text=("text",))) == ["7"]
    with pytest.raises(DataError, match="column 'text' holds int64, not texts"):
        open_table(path)


def test_names_with_blanks_are_found_when_the_user_names_them(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("adress , words\nu, t\n")
    assert texts_of(path, TableColumns(url="adress", text=("words",))) == [" t"]
