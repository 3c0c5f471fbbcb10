"""Match a list of class names to the labels of a set: by number, by name, or by the order of names; or refuse it."""

import re
from collections.abc import Sequence
from pathlib import Path

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.wording import counted
from openwit.training.evaluation.named_lists import read_named_list

BESIDE = ("classnames.txt", "classes.txt", "class_names.txt")
"""Names of a list beside a set's images: one class per line, in order of number; CLIP_benchmark's is the first."""

_NUMBER_BEFORE = re.compile(r"(\d+)\s*[\s:,;.)]\s*(?=\S)")
_WORDNET_ID = re.compile(r"n\d{8}\Z")
_WORDNET_ID_BEFORE = re.compile(r"(n\d{8})\s*[\s:,;]\s*(?=\S)")


def read_class_names(path: Path, keys: Sequence[str] = ()) -> list[str]:
    """Return the names of a list: one per line, or a list pasted from code; numbers or WordNet ids before all are cut.

    Args:
        path: the file, see `openwit.training.evaluation.named_lists.read_named_list`.
        keys: names of the dataset, for files with a list for each.

    Raises:
        DataError: there is no such file, the lines are WordNet ids, which no text has, or it has fewer than two.
    """
    names = [line for _, line in read_named_list(path, "classes", keys, "no file of class names")]
    if names and all(_WORDNET_ID.match(name) for name in names):
        raise DataError(f"{path} holds WordNet ids such as {names[0]}, not names: give the words that they stand for")
    numbers = [_NUMBER_BEFORE.match(name) for name in names]
    found = [int(match[1]) for match in numbers if match]
    if len(names) > 1 and len(found) == len(names) and found in (_from(0, names), _from(1, names)):
        names = [name[match.end() :] for name, match in zip(names, numbers, strict=True) if match]
    if len(names) < 2:
        raise DataError(
            f"{path} names {counted(len(names), 'class', plural='classes')}: there is nothing to choose with fewer "
            "than two"
        )
    return names


def _from(first: int, names: Sequence[str]) -> list[int]:
    return list(range(first, first + len(names)))


def folder_numbers(folders: Sequence[str]) -> list[int] | None:
    """Return the numbers that all names of folders are; None if one is not.

    Raises:
        DataError: two folders are the same number, such as `1` and `01`.
    """
    if not all(name.isascii() and name.isdecimal() for name in folders):
        return None
    numbers = [int(name) for name in folders]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"two folders have the same number ({', '.join(folders[:5])}): number each class once")
    return numbers


def names_of_folders(
    folders: Sequence[str], path: Path, where: Path, keys: Sequence[str] = ()
) -> tuple[list[str], list[int], str]:
    """Match a list of class names to folders, one folder per class.

    Args:
        folders: names of the folders, in the order of their labels.
        path: file of class names.
        where: what holds the folders, for messages.
        keys: see `read_class_names`.

    Returns:
        The names by number, the number of each folder, and what was decided, in words.

    Raises:
        DataError: the list cannot be that of the folders.
    """
    names = read_class_names(path, keys)
    numbers = folder_numbers(folders)
    if numbers is not None:
        return _by_number(names, numbers, path=path, where=where)
    ids = [_WORDNET_ID_BEFORE.match(name) for name in names]
    if names and all(ids):
        known = {match[1]: number for number, match in enumerate(ids) if match}
        plain = [name[match.end() :] for name, match in zip(names, ids, strict=True) if match]
        found = _by_key(folders, known)
        if found is not None:
            return plain, found, f"the folders of {where} and the lines of {path} are matched by WordNet id"
    by_fold: dict[str, int] = {}
    for number, name in enumerate(names):
        by_fold.setdefault(_folded(name), number)
    by_name = _by_key([_folded(folder) for folder in folders], by_fold)
    if by_name is not None:
        return names, by_name, f"the folders of {where} and the lines of {path} are matched by name"
    if len(folders) != len(names):
        raise DataError(f"{path} names {len(names)} classes, but {where} has {len(folders)}")
    for place, folder in enumerate(folders):
        line = by_fold.get(_folded(folder), place)
        if line != place:
            raise DataError(
                f"{path} has the folder {folder} of {where} on line {line + 1}, though it is number "
                f"{place + 1} of the folders: name all folders as the lines are, or by number"
            )
    return (
        names,
        list(range(len(names))),
        f"the lines of {path} are taken in the order of the folders' names in {where}",
    )


def _by_number(names: list[str], numbers: list[int], *, path: Path, where: Path) -> tuple[list[str], list[int], str]:
    if max(numbers) < len(names):
        return names, numbers, f"the folders of {where} are numbers: lines of {path}, from 0"
    if min(numbers) == 1 and max(numbers) == len(names) == len(numbers):
        return (
            names,
            [number - 1 for number in numbers],
            f"the folders of {where} are numbers: lines of {path}, from 1",
        )
    raise DataError(
        f"{path} names {len(names)} classes, but the folders of {where} are numbered up to {max(numbers)}: it is the "
        "list of another set"
    )


def _by_key(folders: Sequence[str], known: dict[str, int]) -> list[int] | None:
    """Return the number of each folder; None unless all are known."""
    return [known[folder] for folder in folders] if all(folder in known for folder in folders) else None


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
