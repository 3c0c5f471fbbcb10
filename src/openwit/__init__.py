"""OpenWIT: CLIP's whole system, a WebImageText dataset builder and a CLIP trainer that consumes its shards."""

__version__ = "0.1.0"
