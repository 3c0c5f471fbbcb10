"""A reader: yield one dictionary per image of a file."""

import zipfile
from collections.abc import Iterator
from pathlib import PurePath


def read_zip(path: str, *, license: str | None = None) -> Iterator[dict[str, object]]:
    """Read a ZIP archive of pictures, each with a text file of the same name: kite.jpg and kite.txt."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        for name in sorted(names):
            text_name = str(PurePath(name).with_suffix(".txt"))
            if not name.endswith(".txt") and text_name in names:
                text = archive.read(text_name).decode()
                yield {"image": archive.read(name), "text": text.splitlines(), "license": license}
