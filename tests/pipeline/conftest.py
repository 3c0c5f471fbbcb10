"""Fixtures of the dataset wing: a small web server of many moods, and photographs."""

from support.photographs import distance, encoded, photo
from support.web_server import web

__all__ = ["distance", "encoded", "photo", "web"]
