"""Decode, resize, encode, hash and describe images: pure functions, without Beam."""
