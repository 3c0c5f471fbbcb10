"""Read tables of (image, text): Parquet, CSV, TSV and JSON lines."""
