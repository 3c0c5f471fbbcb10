"""The model wing: trains and evaluates CLIP on the shards. `wit-train` is its command."""
