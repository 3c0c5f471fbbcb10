"""Helpers shared by several packages of the builder: URLs, remote files, counting, compiled functions."""
