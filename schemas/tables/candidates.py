"""Define the tables of candidates: (image URL, text) pairs from a crawl or a table, cleaned and filtered."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

PAIR_ID = pa.binary(16)

_CANDIDATE_COLUMNS = (
    Column("pair_id", PAIR_ID, "xxh3-128 of normalised URL, NUL, normalised text"),
    Column("url", pa.string(), "absolute URL of the image, or table:NAME#ROW where the bytes are in the input"),
    Column("text", pa.string(), "cleaned text, as it will be trained on"),
    Column("text_source", pa.string(), "alt | title | figcaption | aria-label | link | og:description | table"),
    Column("image_source", pa.string(), "where the URL stood: src | srcset | picture | lazy | noscript | og | table"),
    Column("language", pa.string(), "ISO 639-1 code, null when not asked for", nullable=True),
    Column("language_score", pa.float32(), "identifier's confidence in [0, 1]", nullable=True),
    Column("split", pa.string(), "train, or the held-out set this pair belongs to (val, test)"),
    Column("page_url", pa.string(), "page the pair was found on", nullable=True),
    Column("archive", pa.string(), "input file as the recipe names it"),
    Column("record_offset", pa.int64(), "byte offset of the WARC record, or row of the table"),
    Column("fetch_date", pa.string(), "WARC-Date of the page, ISO 8601", nullable=True),
    Column("license", pa.string(), "licence link the page or table states", nullable=True),
    Column("has_bytes", pa.bool_(), "the image bytes are in `archive` at row `record_offset`; nothing to download"),
)

CANDIDATES = TableSchema(
    "candidates", 1, "One row a (image, text) pair found and not filtered out.", _CANDIDATE_COLUMNS
)

MATCHES = TableSchema(
    "matches",
    2,
    "One row a candidate, in the order of its candidates file: what selection needs and nothing more.",
    (
        Column("pair_id", PAIR_ID, "as in candidates"),
        Column("url_hash", pa.uint64(), "xxh3-64 of the normalised URL"),
        Column("text_length", pa.int32(), "code points of the text"),
        Column("tie", pa.uint64(), "hash of the whole row: picks the same winner among equals on any runner"),
        Column("words_hash", pa.uint64(), "hash of the text's words without order; 0 where not asked for"),
        Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),
    ),
)

PAIR_SAMPLES = TableSchema(
    "pair_samples",
    1,
    "A share of the pool's pairs, drawn by hash: what choosing t by a target needs to know.",
    (Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),),
)

SELECTED = TableSchema(
    "selected",
    1,
    "Candidates that a query drew. Sorted by host_bucket, so that statistics of row groups find a bucket.",
    (
        *_CANDIDATE_COLUMNS,
        Column("query_ids", pa.list_(pa.int32()), "queries found in the text, ascending"),
        Column("drawn_by", pa.list_(pa.int32()), "those of them that drew the pair, ascending"),
        Column("priority", pa.float64(), "min over queries of u(x, q) / threshold_q; at most 1 for kept pairs"),
        Column(
            "host_bucket", pa.int32(), "hash of the URL's host modulo the number of buckets: one fetch worker each"
        ),
    ),
)

DROPS = TableSchema(
    "drops",
    1,
    "Pairs that left at a stage, each with its reason; together with the stage's output they are its input.",
    (
        Column("pair_id", PAIR_ID, "as in candidates; null where the pair never got one", nullable=True),
        Column("url", pa.string(), "image URL as far as it was known"),
        Column("text", pa.string(), "text as far as it was known"),
        Column("reason", pa.string(), "one of the stage's closed list of reasons"),
        Column("detail", pa.string(), "what was seen (HTTP status, size, nearest query …)", nullable=True),
    ),
)

DAMAGE = TableSchema(
    "damage",
    1,
    "What could not be read of the inputs: a line a place, at most so many a file and reason.",
    (
        Column("archive", pa.string(), "input file as the recipe names it"),
        Column("reason", pa.string(), "what kind of damage; the names are those of the counters"),
        Column("detail", pa.string(), "where (byte offset, row or line) and what was seen"),
    ),
)

DAMAGE_FILE = "damage.parquet"

VERDICTS = TableSchema(
    "verdicts",
    1,
    "What deduplication said of each row of a candidates file, in its order.",
    (Column("verdict", pa.int8(), "0 in the pool, 1 duplicate pair, 2 other text of its image, 3 no query matches"),),
)
