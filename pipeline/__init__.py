"""The dataset wing: from web crawls to WebDataset shards. Its command is `wit`."""
