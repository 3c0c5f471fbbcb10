"""Stage candidates: (image, text) pairs from crawls and tables."""
