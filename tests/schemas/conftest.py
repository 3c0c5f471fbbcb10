"""Fixtures of the ground floor: photographs."""

from support.photographs import distance, encoded, photo

__all__ = ["distance", "encoded", "photo"]
