"""`wit-train export`: a model into a folder that another program loads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from rich.console import Console

from openwit.schemas.common.errors import OpenWITError
from openwit.training.export.folder import atomic_folder
from openwit.training.export.hugging_face import write_hugging_face
from openwit.training.export.onnx_graphs import write_onnx
from openwit.training.export.open_clip import write_open_clip
from openwit.training.export.source import Choice, Source, read_source

LINEAGE = "lineage.json"
LAYOUTS = ("open_clip", "hf", "onnx")


@dataclass(frozen=True)
class ExportJob:
    """What the command line asks for (see `openwit.training.cli.main.export`)."""

    model: Path
    layout: str
    out: Path
    weights: str = "model"
    average: int = 1
    quick_gelu: bool | None = None

    def run(self, console: Console) -> None:
        """Writes the folder and says what stands in it.

        Raises:
            OpenWITError: an unknown layout, nothing to export, or an architecture that the layout does not have.
        """
        if self.layout not in LAYOUTS:
            raise OpenWITError(f"--format {self.layout!r} must be one of {', '.join(LAYOUTS)}")
        if self.weights not in get_args(Choice):
            raise OpenWITError(f"--weights {self.weights!r} must be one of {', '.join(get_args(Choice))}")
        if not self.model.exists():
            raise OpenWITError(f"{self.model} does not exist")

        def say(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        with atomic_folder(self.out) as folder:
            source = read_source(self.model, cast(Choice, self.weights), self.average, self.quick_gelu, say)
            notes = write(source, self.layout, folder)
            (folder / LINEAGE).write_text(json.dumps(source.lineage, indent=1, sort_keys=True) + "\n")
        for note in (*source.notes, *notes):
            say(note)
        say(f"wrote {self.out}")


def write(source: Source, layout: str, folder: Path) -> tuple[str, ...]:
    """A model in one of `LAYOUTS` into an existing folder; returns sentences for the user."""
    if layout == "hf":
        return write_hugging_face(source, folder)
    if layout == "onnx":
        return write_onnx(source, folder)
    write_open_clip(source, folder)
    return ()
