"""Write a small dump of a Wikipedia."""

import bz2
from collections.abc import Sequence
from pathlib import Path


def write_dump(folder: Path, words: Sequence[str], titles: Sequence[str] | None = None) -> Path:
    """Write a dump with a page for each word, which names the word twice; return its path.

    Args:
        titles: of the pages; by default the words.
    """
    pages = "".join(
        f"<page><title>{title}</title><ns>0</ns><id>{n}</id><revision><text>The [[{word}]] is a {word}.</text>"
        "</revision></page>"
        for n, (word, title) in enumerate(zip(words, titles or words, strict=True))
    )
    path = folder / "wiki.xml.bz2"
    path.write_bytes(bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    return path
