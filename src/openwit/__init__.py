"""OpenWIT: CLIP's whole system, a WebImageText dataset builder and a CLIP trainer that consumes its shards."""
