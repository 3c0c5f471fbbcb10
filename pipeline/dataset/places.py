"""Name the folders beside a dataset in which its build keeps its files."""

from pathlib import Path

from openwit.schemas.common.storage.store_path import as_path
from openwit.schemas.manifest import MANIFEST_NAME

STAGES = "stages"
_WORK = ".work"


def work_folder(dataset: str | Path) -> Path:
    """Return the work folder of a dataset that a command builds from its options: DATASET.work beside it."""
    folder = as_path(dataset if isinstance(dataset, Path) else dataset.rstrip("/")).absolute()
    return folder.with_name(f"{folder.name}{_WORK}")


def stages_folder(dataset: Path) -> Path:
    """Return the folder with the work files of the build whose dataset, or whose own folder, is given."""
    own = dataset / STAGES
    if own.is_dir() and not (dataset / MANIFEST_NAME).exists():
        return own
    beside = work_folder(dataset) / STAGES
    return beside if beside.is_dir() else dataset.parent / STAGES
