"""The recipes and training configurations that travel in the package, for a user to copy."""

from dataclasses import dataclass
from pathlib import Path

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import RecipeError, StorageError

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Starter:
    """Files that begin a project: a recipe, training configurations, or both.

    Attributes:
        name: what `wit init` takes.
        files: absolute paths inside the package, sorted by name.
        about: the first sentence of the first file's comment.
    """

    name: str
    files: tuple[Path, ...]
    about: str


def starters() -> list[Starter]:
    """List what can be copied, sorted by name."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted(_HERE.glob("*.yaml")) + sorted(_HERE.glob("*/*.yaml")):
        name = path.stem if path.parent == _HERE else path.parent.name
        by_name.setdefault(name, []).append(path)
    return [Starter(name, tuple(files), _about(files[0])) for name, files in sorted(by_name.items())]


def copy_starter(name: str, folder: Path) -> list[Path]:
    """Copy a starter's files into a folder, which is made; returns the paths written.

    Raises:
        RecipeError: there is no such starter.
        StorageError: a file is there already (nothing is written then), or the folder cannot be written.
    """
    found = {starter.name: starter for starter in starters()}
    if name not in found:
        raise RecipeError(f"there is no {name!r} to copy; there are: {', '.join(found)}")
    targets = {source: folder / source.name for source in found[name].files}
    for target in targets.values():
        if target.exists():
            raise StorageError(f"{target} exists already: give another --out")
    for source, target in targets.items():
        try:
            atomic_write(target, source.read_bytes())
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror or error}") from error
    return list(targets.values())


def _about(path: Path) -> str:
    """Return the first sentence of the comment at the head of a YAML file."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# ").strip())
    text = " ".join(lines)
    ends = [place for mark in (". ", ": ") if (place := text.find(mark)) > 0]
    return text[: min(ends)] if ends else text.rstrip(".:")
