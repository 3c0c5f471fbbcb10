"""Open images that strangers made, in both wings: what a file is, its picture without its metadata, its colours."""
