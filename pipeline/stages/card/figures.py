"""Write numbers for a reader: shares, sizes, short forms."""


def percent(part: float, whole: float = 1.0) -> str:
    """Return a share in words, never rounded to nothing or to all: `0.3 %`, `< 0.1 %`, `> 99.9 %`."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def byte_size(size: int) -> str:
    """Return bytes in the unit that keeps the number short, decimal."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def short_number(n: int) -> str:
    """Return a number in at most five characters."""
    for size, name in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            unit = 1000 if name == "k" else size
            return f"{n / unit:.0f}{name}"
    return f"{n:,}" if n else ""
