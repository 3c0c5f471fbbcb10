"""Define the tables of queries (paper section 2.2): up to 500,000 words, bigrams, article titles and synsets."""

import pyarrow as pa

from openwit.schemas.table import Column, TableSchema

SOURCES = ("word", "bigram", "title", "synset", "table")

MATCH_NOTE = "match"
"""Note of a file of `QUERIES`: how captions are to be matched, `words` or `metaclip`."""

QUERIES = TableSchema(
    "queries",
    1,
    "The queries that captions are searched for. Sorted by query_id; ids are dense from 0.",
    (
        Column("query_id", pa.int32(), "dense number from 0, the position in this table"),
        Column(
            "query",
            pa.string(),
            "unique; normalised by pipeline.text.normalise in a list for matching words",
        ),
        Column("source", pa.string(), "word | bigram | title | synset | table (the user's own list)"),
        Column("count", pa.int64(), "occurrences in the corpus; of titles, links to the article", nullable=True),
        Column("pmi", pa.float32(), "pointwise mutual information in bits, bigrams only", nullable=True),
        Column("views", pa.int64(), "page views of the article, titles only", nullable=True),
    ),
)

QUERY_COUNTS = TableSchema(
    "query_counts",
    1,
    "Counts of each query before and after balancing, in query_id order.",
    (
        Column("query_id", pa.int32(), "as in the query list"),
        Column("query", pa.string(), "text of the query"),
        Column("source", pa.string(), "as in the query list"),
        Column("pool", pa.int64(), "deduplicated pairs that match the query (N_q)"),
        Column("drawn", pa.int64(), "pairs drawn by this query, at most cap with balance=cap"),
        Column("kept", pa.int64(), "kept pairs that match it, drawn by it or by another query"),
        Column("threshold", pa.float64(), "largest u(x, q) in (0, 1] that the query accepts"),
    ),
)

TERM_COUNTS = TableSchema(
    "term_counts",
    1,
    "Occurrences of terms in one part of a corpus; a term may have several rows, which add up.",
    (
        Column("kind", pa.string(), "word | bigram | title | link | popularity | views"),
        Column("term", pa.string(), "normalised"),
        Column("count", pa.int64(), "occurrences in this part"),
    ),
)

QUERY_DRAWS = TableSchema(
    "query_draws",
    1,
    "Contribution of the pairs of one file to each query's counts; queries without any are omitted.",
    (
        Column("query_id", pa.int32(), "as in the query list"),
        Column("drawn", pa.int64(), "pairs of the file drawn by the query"),
        Column("kept", pa.int64(), "kept pairs of the file that match the query"),
    ),
)

THRESHOLDS = TableSchema(
    "thresholds",
    1,
    "The u of each query's cap-th smallest pair, for one bucket of queries.",
    (
        Column("query_id", pa.int32(), "as in the query list"),
        Column("threshold", pa.float64(), "u of the cap-th smallest pair sent, or of the largest if fewer were sent"),
        Column("sent", pa.int64(), "pairs sent below the bound"),
    ),
)
