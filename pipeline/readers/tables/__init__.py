"""Tables of (image, text): Parquet, CSV, TSV and JSON lines."""
