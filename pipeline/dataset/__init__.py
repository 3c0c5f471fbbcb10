"""Work on a finished dataset: its files, its store, verification, removal."""
