"""The dataset wing: from web crawls to WebDataset shards. `wit` is its command."""
