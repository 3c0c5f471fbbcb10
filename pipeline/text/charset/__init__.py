"""Detect the encoding of bytes that declare none, for pages, tables and lists."""

from openwit.pipeline.text.charset.detection import detect

__all__ = ["detect"]
