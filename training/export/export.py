"""Write a model into a folder that another program loads."""

import json
from pathlib import Path

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import ExportLayout
from openwit.training.export.folder import atomic_folder
from openwit.training.export.hugging_face import write_hugging_face
from openwit.training.export.onnx_graphs import write_onnx
from openwit.training.export.open_clip import write_open_clip
from openwit.training.models.clip import Clip
from openwit.training.models.contrastive_captioner import ContrastiveCaptioner

LINEAGE = "lineage.json"


def export_model(model: LoadedModel, out: Path, *, layout: ExportLayout) -> tuple[str, ...]:
    """Write a model for open_clip, for Hugging Face's transformers, or as ONNX graphs.

    Args:
        model: of `openwit.training.checkpoints.load.load_model`.
        out: folder to write; complete or absent, must not exist yet.
        layout: which program it is for.

    Returns:
        Sentences on what was assumed, converted or measured.

    Raises:
        RecipeError: the model has no pair of towers, the layout has no such architecture, or `out` exists.
    """
    if not model.embeds:
        raise RecipeError(
            f"the model was trained for {model.objective_name}, which has no pair of towers: only models with image "
            "and text embeddings can be exported"
        )
    if isinstance(model.model, ContrastiveCaptioner):
        raise RecipeError(
            f"a model trained for {model.objective_name} cannot be exported: its text tower ends with a token of its "
            "own, for which the layouts of CLIP have no place"
        )
    if not isinstance(model.model, Clip):
        raise RecipeError("only built-in architectures can be exported, not a model given by dotted name")
    with atomic_folder(out) as folder:
        notes = write(model, layout, folder)
        (folder / LINEAGE).write_text(json.dumps(model.lineage, indent=1, sort_keys=True) + "\n")
    return (*model.notes, *notes)


def write(model: LoadedModel, layout: ExportLayout, folder: Path) -> tuple[str, ...]:
    """Write a model in a layout into an existing folder; return sentences for the user."""
    match layout:
        case ExportLayout.HUGGING_FACE:
            return write_hugging_face(model, folder)
        case ExportLayout.ONNX:
            return write_onnx(model, folder)
        case ExportLayout.OPEN_CLIP:
            write_open_clip(model, folder)
            return ()
