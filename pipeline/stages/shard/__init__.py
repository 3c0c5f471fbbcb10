"""Stage shard: WebDataset shards with index, metadata and manifest."""
