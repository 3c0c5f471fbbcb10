"""Word counts in messages."""


def counted(count: int, noun: str, *, plural: str | None = None) -> str:
    """Return a count with its noun: `1 sample`, `2,102 samples`.

    Args:
        count: the number.
        noun: singular.
        plural: if it is not the singular with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
