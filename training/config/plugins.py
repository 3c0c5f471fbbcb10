"""Distinguish built-in names from dotted names of your own code."""


def is_dotted(name: object) -> bool:
    """Return whether a name is dotted (`package.module.attribute` or `package.module:attribute`)."""
    return isinstance(name, str) and ("." in name or ":" in name)
