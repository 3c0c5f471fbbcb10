"""Read the values that folders of a path give to every row of a table, as in `split=test/part-0.parquet`."""

import re
from urllib.parse import unquote

_FOLDER = re.compile(r"([A-Za-z_][\w.-]*)=(.*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(path: str) -> dict[str, str]:
    """Return the values that the folders of a path name (Apache Hive's partitions): column to value.

    Args:
        path: of a file, or its URL.
    """
    folders = path.partition("?")[0].replace("\\", "/").split("/")[:-1]
    found = (_FOLDER.fullmatch(folder) for folder in folders)
    return {match[1]: unquote(match[2]) for match in found if match is not None and match[2] not in ("", _NULL)}
