"""Upper bounds of numbers that are settings of a step and options of its command: a slip is refused at once."""

MOST_QUERIES = 10**9
"""Terms of a query list: two thousand times the paper's."""
LARGEST_CAP = 10**12
"""Pairs drawn for a query."""
LARGEST_SEED = 2**63 - 1
"""Seed of a draw or shuffle."""
MOST_CONCEPTS = 100_000
"""Emoji of the demo."""
HIGHEST_PRICE = 1e9
"""Price of a core for an hour, in any currency."""
MOST_PAIRS = 10**12
"""Pairs, texts, occurrences or views: more than the web has."""
MOST_FILES = 10**9
"""Files of an input."""
LARGEST_PART = 1 << 44
"""Bytes of an input that a task reads."""
LARGEST_SHARD = 1 << 50
"""Bytes of a tar."""
