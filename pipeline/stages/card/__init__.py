"""Stage card: what the dataset holds and how it came to be, as a page and as JSON."""
