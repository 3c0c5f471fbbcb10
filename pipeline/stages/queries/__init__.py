"""Stage queries: the query list."""
