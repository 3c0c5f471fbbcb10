"""The dataset card: what a dataset holds and how it came to be, as numbers and as a page."""
