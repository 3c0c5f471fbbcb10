"""Helpers shared by `pipeline` and `training`: errors, atomic writes, settings, entry points of the commands."""
