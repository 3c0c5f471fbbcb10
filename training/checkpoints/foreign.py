"""Load the model of a folder of another program: Hugging Face's CLIP and SigLIP, open_clip's, and our exports."""

import logging
from dataclasses import replace
from pathlib import Path

from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.initial import InitWeights, read_init
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.clip import Clip
from openwit.training.models.weights import LoadReport, into_model
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, ClipTokenizer, clip_merges, clip_tokenizer, read_merges
from openwit.training.tokenizer.file_tokenizer import file_in, read_file
from openwit.training.tokenizer.read import AnyTokenizer

MERGES = "merges.txt"
logger = logging.getLogger(__name__)


def model_of_folder(path: Path, quick_gelu: bool | None) -> tuple[Clip, LoadReport, AnyTokenizer, InitWeights]:
    """Return the model in evaluation mode, what was assumed, its tokenizer, and the weights' checksum.

    Raises:
        DataError: a file is missing or damaged, or of an architecture that is not built here.
    """
    found = read_init(path, quick_gelu=quick_gelu, report=logger.warning)
    spec = found.spec
    assert spec is not None
    if quick_gelu is not None:
        spec = spec.model_copy(update={"quick_gelu": quick_gelu})
    tokenizer = tokenizer_of(path, spec)
    model = Clip(spec, init_logit_bias=0.0 if "logit_bias" in found.state else None)
    report = into_model(model, found.state)
    return model.eval(), replace(report, notes=(*report.notes, *found.notes)), tokenizer, found


def tokenizer_of(folder: Path, spec: ClipSpec) -> AnyTokenizer:
    """Return the tokenizer of a folder; CLIP's own where the folder has none and the vocabulary is CLIP's.

    Raises:
        DataError: it has none, or one of another size.
    """
    rows, file = spec.text.vocabulary, file_in(folder)
    if spec.text.pool == "end" and (folder / MERGES).is_file():
        text = (folder / MERGES).read_text(encoding="utf-8")
        pairs = read_merges(text, str(folder / MERGES))
        own = clip_tokenizer() if pairs == read_merges(clip_merges(), "CLIP's") else ClipTokenizer(text)
        return _fitting(own, rows, folder)
    if spec.text.pool == "end" and rows >= VOCABULARY_SIZE:
        return clip_tokenizer()
    if file is None:
        raise DataError(
            f"{folder} has a vocabulary of {rows:,} instead of CLIP's {VOCABULARY_SIZE:,}, and neither tokenizer.json "
            "nor spiece.model: put the tokenizer's files beside the weights"
        )
    own_file = read_file(file)
    if spec.text.pool == "end" and own_file.end_of_text != own_file.vocabulary_size - 1:
        raise DataError(
            f"{file} ends texts with {own_file.end_of_text}, but the model finds the end at the largest id"
        )
    return _fitting(own_file, rows, file)


def _fitting(tokenizer: AnyTokenizer, rows: int, where: Path) -> AnyTokenizer:
    if tokenizer.vocabulary_size > rows:
        raise DataError(f"{where} has {tokenizer.vocabulary_size:,} token ids, but the weights have rows for {rows:,}")
    return tokenizer
