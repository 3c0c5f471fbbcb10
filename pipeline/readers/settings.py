"""Define constants of inputs for settings modules, which must not import readers."""

COMMON_CRAWL = "https://data.commoncrawl.org/"
"""Base URL of the entries in Common Crawl's path lists; also reachable as s3://commoncrawl/."""
