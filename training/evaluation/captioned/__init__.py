"""Open images with their captions, in whatever layout a set of them lies."""
