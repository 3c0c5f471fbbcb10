"""From shards to batches: datasets, order, augmentation, loader."""
