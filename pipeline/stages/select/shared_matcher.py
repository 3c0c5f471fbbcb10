"""Build the matcher once per selection, and share it among the workers: they map its files."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
from numba.core import event as numba_event

from openwit.pipeline.execution.files import STAGE
from openwit.pipeline.text.matching.character_tables import load_character_tables, save_character_tables
from openwit.pipeline.text.matching.matcher import Matcher
from openwit.pipeline.text.matching.rows import ROWS_FOR_TABLES
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.tables.queries import QUERIES

_INDEX = f"{STAGE}/matcher.index"
_CHARACTERS = f"{STAGE}/characters.index"

_log = logging.getLogger(__name__)


class _CompileNotice(numba_event.Listener):
    """Log that a kernel is compiled, which takes long; one that is loaded from numba's cache is not compiled."""

    def __init__(self) -> None:
        self.reported = False

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        if not self.reported:
            self.reported = True
            _log.warning(
                "Compiling the matcher, about half a minute: once after an installation, or at each run where neither "
                "the package's folder nor NUMBA_CACHE_DIR can be written"
            )

    def on_end(self, event: Any) -> None:
        pass


def compile_matcher(mode: MatchMode) -> None:
    """Compile the kernels, or read them from numba's cache, before the workers start, so that it is done once."""
    with numba_event.install_listener("numba:compile", _CompileNotice()):
        captions = pa.array(["a plain caption", *["é"] * ROWS_FOR_TABLES])
        Matcher(["a plain", "é"], mode).match(captions)


def share_matcher(folder: Path, queries: Path, mode: MatchMode) -> None:
    """Build the matcher and write it to the stage's folder, from which `shared_matcher` maps it.

    Files of an interrupted run are used again.
    """
    characters = folder / _CHARACTERS
    if mode == "words" and not (load_character_tables(characters) and characters.exists()):
        save_character_tables(characters)
    compile_matcher(mode)
    Matcher.load(folder / _INDEX, QUERIES.read(queries).column("query"), mode)


def shared_matcher(folder: Path, queries: Path, mode: MatchMode) -> Matcher:
    """Return the matcher that `share_matcher` wrote; where its files cannot be used it is built again."""
    if mode == "words":
        load_character_tables(folder / _CHARACTERS)
    return Matcher.open(folder / _INDEX, mode) or Matcher(QUERIES.read(queries).column("query"), mode)


def unshare_matcher(folder: Path) -> None:
    """Remove the files of the shared matcher."""
    for name in (_INDEX, _CHARACTERS):
        (folder / name).unlink(missing_ok=True)
