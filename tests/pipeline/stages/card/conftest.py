"""A dataset made by hand, without the stages: samples as rows, a tar, an index, a manifest."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from support.pictures import picture

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.schemas.manifest import DatasetManifest, FunnelStep, ShardEntry
from openwit.schemas.tables.images import DUPLICATE_EXAMPLES
from openwit.schemas.tables.queries import QUERY_COUNTS
from openwit.schemas.tables.samples import SAMPLES, SHARD_INDEX


def sample(number, texts, **columns):
    """A row of SAMPLES; what is a list of texts has one entry a text."""
    n = len(texts)
    row = {
        "key": f"{number:010d}", "url": f"http://a.org/{number}.jpg", "caption": texts[0], "texts": texts,
        "pair_ids": [f"{number:028x}{at:04x}" for at in range(n)], "query_ids": [[] for _ in texts],
        "drawn_by": [[] for _ in texts], "priorities": [0.5] * n, "text_sources": ["alt"] * n,
        "languages": [None] * n, "page_urls": [None] * n, "archives": ["a.warc"] * n, "record_offsets": [0] * n,
        "licenses": [None] * n, "status": "success", "error_message": None, "width": 96, "height": 80,
        "original_width": 96, "original_height": 80, "original_format": "JPEG", "format": "jpg", "exif": None,
        "sha256": "0" * 64,
        "phash": "0" * 16, "duplicates": 0, "uid": f"{number:032x}",
    }  # fmt: skip
    return {**row, **columns}


def write_shard(folder: Path, split: str, number: int, rows) -> ShardEntry:
    base = folder / split / f"{number:05d}"
    base.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(base.with_suffix(".tar"), "w") as tar:
        for at, row in enumerate(rows):
            data = picture(at + 100 * number)
            member = tarfile.TarInfo(f"{row['key']}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    SAMPLES.write(base.with_suffix(".parquet"), pa.Table.from_pylist(rows, schema=SAMPLES.arrow))
    with tarfile.open(base.with_suffix(".tar")) as tar:
        members = [(m.offset_data, m.size) for m in tar.getmembers()]
    index = {name: [0] * len(rows) for name in SHARD_INDEX.arrow.names}
    index |= {"key": [r["key"] for r in rows], "image_offset": [a for a, _ in members]}
    index["image_size"] = [size for _, size in members]
    with pa.OSFile(str(base.with_suffix(".idx.arrow")), "wb") as sink:
        table = SHARD_INDEX.table(index)
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    stats = base.with_name(f"{base.name}_stats.json")
    stats.write_text("{}")
    entries = [file_entry(folder, base.with_suffix(end)) for end in (".tar", ".parquet", ".idx.arrow")]
    return ShardEntry(
        name=base.name, split=split, samples=len(rows), pairs=sum(len(row["texts"]) for row in rows),
        tar=entries[0], metadata=entries[1], index=entries[2], stats=file_entry(folder, stats),
    )  # fmt: skip


@pytest.fixture
def make_dataset(tmp_path):
    """Writes a dataset: {split: [rows of a shard, …]}, funnel lines, queries as (query, pool, drawn), copies."""

    def make(shards, funnel=(), queries=None, duplicates=None, name="d", **manifest):
        folder = tmp_path / name
        folder.mkdir()
        numbered = [(split, rows) for split, parts in shards.items() for rows in parts]
        entries = [write_shard(folder, split, n, rows) for n, (split, rows) in enumerate(numbered)]
        if queries is not None:
            n = len(queries)
            columns = {"query_id": list(range(n)), "source": ["word"] * n, "threshold": [0.5] * n}
            columns |= {key: [q[at] for q in queries] for at, key in enumerate(("query", "pool", "drawn"))}
            QUERY_COUNTS.write(folder / "queries.parquet", QUERY_COUNTS.table({**columns, "kept": columns["drawn"]}))
        if duplicates is not None:
            table = pa.Table.from_pylist(duplicates, schema=DUPLICATE_EXAMPLES.arrow)
            DUPLICATE_EXAMPLES.write(folder / "duplicates.parquet", table)
        settings = {"name": name, "recipe": {}, "tools": {"openwit": "0"}, "funnel": list(funnel), "shards": entries}
        DatasetManifest(**{**settings, **manifest}).save(folder)
        return folder

    return make


@pytest.fixture
def job():
    return Job(make_engine("local", 1))


@pytest.fixture
def birds(make_dataset):
    """Two splits, three shards, a query list, a funnel, copies: something in every section."""
    train = [
        sample(
            n,
            [f"a red kite {n}", f"Rotmilan Nr {n}"][: 1 + n % 2],
            query_ids=[[0, 1], [2]][: 1 + n % 2],
            languages=["en", "de"][: 1 + n % 2],
            licenses=["https://creativecommons.org/licenses/by/2.0/" if n % 3 else None, None][: 1 + n % 2],
            page_urls=[f"http://p.org/{n}", None][: 1 + n % 2],
            url=f"http://{'abc'[n % 3]}.org/{n}.jpg",
            original_width=100 + 150 * n,
            original_height=400,
            duplicates=int(n % 4 == 0),
        )
        for n in range(12)
    ]
    val = [sample(100 + n, [f"kite of {n}"], query_ids=[[1]]) for n in range(3)]
    funnel = [
        FunnelStep(stage="candidates", unit="pairs", rows_in=40, rows_out=30, reasons={"language": 6, "too_short": 4}),
        FunnelStep(stage="select", unit="pairs", rows_in=30, rows_out=25, reasons={"not_drawn": 5}),
        FunnelStep(
            stage="fetch", unit="images", rows_in=22, rows_out=18,
            reasons={"http_not_found": 2, "robots_disallowed": 1, "some_new_reason": 1},
        ),
        FunnelStep(stage="fetch", unit="pairs", rows_in=25, rows_out=22, reasons={"http_not_found": 3}),
        FunnelStep(stage="dedup", unit="images", rows_in=18, rows_out=15, reasons={"near_duplicate": 3}),
        FunnelStep(stage="dedup", unit="pairs", rows_in=22, rows_out=21, reasons={"same_text_of_copy": 1}),
        FunnelStep(stage="shard", unit="pairs", rows_in=21, rows_out=21),
    ]  # fmt: skip
    queries = [("a", 30, 10), ("kite", 20, 10), ("rotmilan", 6, 6), ("never", 0, 0)]
    copy = {"url": "http://a.org/copy.jpg", "text": "a copy", "image": picture(1), "distance": 3}
    kept = {"kept_url": "http://a.org/1.jpg", "kept_text": "a red kite 1", "kept_image": picture(1)}
    nothing = dict.fromkeys(("kept_url", "kept_text", "kept_image", "distance"))
    duplicates = [
        {"reason": "near_duplicate", **copy, **kept},
        {"reason": "frequent_image", **copy, **nothing, "image": b"no picture"},
        {"reason": "evaluation_image", **copy, **nothing, "kept_url": "imagenet/val_1.jpg"},
    ]
    return make_dataset({"train": [train[:5], train[5:]], "val": [val]}, funnel, queries, duplicates, "birds")
