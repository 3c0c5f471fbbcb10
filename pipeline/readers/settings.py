"""Constants of inputs that settings modules need: no reader is imported for them."""

COMMON_CRAWL = "https://data.commoncrawl.org/"
"""Base URL of the entries in Common Crawl's path lists; also reachable as s3://commoncrawl/."""
