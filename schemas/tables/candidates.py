"""Define the tables of candidates: (image URL, text) pairs from a crawl or a table, cleaned and filtered."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

PAIR_ID = pa.binary(16)

_CANDIDATE_COLUMNS = (
    Column("pair_id", PAIR_ID, "xxh3-128 of normalised URL, NUL, normalised text"),
    Column("url", pa.string(), "absolute URL of the image, or table:NAME#PLACE where the bytes are in the input"),
    Column("text", pa.string(), "cleaned text, as it will be trained on"),
    Column("text_source", pa.string(), "alt | title | figcaption | aria-label | link | og:description | table"),
    Column(
        "image_source",
        pa.string(),
        "source of the URL: src | srcset | picture | lazy | noscript | og | table",
    ),
    Column("language", pa.string(), "ISO 639-1 code, null if not identified", nullable=True),
    Column("language_score", pa.float32(), "identifier's confidence in [0, 1]", nullable=True),
    Column("split", pa.string(), "train, or the held-out set this pair belongs to (val, test)"),
    Column("page_url", pa.string(), "page the pair was found on", nullable=True),
    Column("archive", pa.string(), "input file as the recipe names it"),
    Column("record_offset", pa.int64(), "byte offset of the WARC record or image, or row of the table"),
    Column("fetch_date", pa.string(), "WARC-Date of the page, ISO 8601", nullable=True),
    Column("license", pa.string(), "licence link stated by the page or table", nullable=True),
    Column("has_bytes", pa.bool_(), "the image bytes are in `archive` at `record_offset`; there is no download"),
    Column("columns", pa.string(), "further columns of the input as JSON, see the stage's `columns`", nullable=True),
)

CANDIDATES = TableSchema(
    "candidates", 2, "One row per (image, text) pair that was found and not dropped.", _CANDIDATE_COLUMNS
)

MATCHES = TableSchema(
    "matches",
    2,
    "One row per candidate, in the order of its candidates file, with only what selection needs.",
    (
        Column("pair_id", PAIR_ID, "as in candidates"),
        Column("url_hash", pa.uint64(), "xxh3-64 of the normalised URL"),
        Column("text_length", pa.int32(), "code points of the text"),
        Column("tie", pa.uint64(), "hash of the whole row: decides between equal rows, the same on any runner"),
        Column("words_hash", pa.uint64(), "hash of the text's words without order; 0 if not computed"),
        Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),
    ),
)

PAIR_SAMPLES = TableSchema(
    "pair_samples",
    1,
    "A share of the pool's pairs, drawn by hash, for choosing t by a target.",
    (Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),),
)

SELECTED = TableSchema(
    "selected",
    2,
    "Candidates drawn by a query. Sorted by host_bucket, so that row group statistics locate a bucket.",
    (
        *_CANDIDATE_COLUMNS,
        Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),
        Column("drawn_by", pa.list_(pa.int32()), "queries that drew the pair, ascending"),
        Column("priority", pa.float64(), "min over queries of u(x, q) / threshold_q; at most 1 for kept pairs"),
        Column(
            "host_bucket",
            pa.int32(),
            "hash of the URL's host, or of the rows that are read together where a table holds the image, modulo the "
            "number of buckets; a bucket is fetched by one task",
        ),
    ),
)

DROPS = TableSchema(
    "drops",
    1,
    "Pairs dropped by a stage, each with its reason; together with the stage's output they are its input.",
    (
        Column("pair_id", PAIR_ID, "as in candidates; null if the pair never got one", nullable=True),
        Column("url", pa.string(), "image URL, as far as known"),
        Column("text", pa.string(), "text, as far as known"),
        Column("reason", pa.string(), "one of the stage's closed list of drop reasons"),
        Column("detail", pa.string(), "what was seen (HTTP status, size, nearest query …)", nullable=True),
    ),
)

DROP_EXAMPLES = TableSchema(
    "drop_examples",
    1,
    "Some of the pairs that each step of a build dropped, for the card.",
    (
        Column("step", pa.string(), "the step that dropped the pair"),
        Column("reason", pa.string(), "drop reason, as in drops"),
        Column("url", pa.string(), "image URL, as far as known; long ones are cut"),
        Column("text", pa.string(), "text, as far as known; long ones are cut"),
        Column("detail", pa.string(), "what was seen", nullable=True),
    ),
)

DAMAGE = TableSchema(
    "damage",
    1,
    "Damaged stretches of the inputs: one row per location, capped per file and reason.",
    (
        Column("archive", pa.string(), "input file as the recipe names it"),
        Column("reason", pa.string(), "kind of damage; the names are those of the counters"),
        Column("detail", pa.string(), "location (byte offset, row or line) and what was found"),
    ),
)

DAMAGE_FILE = "damage.parquet"

VERDICTS = TableSchema(
    "verdicts",
    1,
    "Result of deduplication for each row of a candidates file, in its order.",
    (Column("verdict", pa.int8(), "0 in the pool, else a drop reason (pipeline.stages.select.winners)"),),
)
