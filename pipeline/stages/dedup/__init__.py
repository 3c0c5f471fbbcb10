"""Stage dedup: one image of each group of duplicates is kept."""
