"""Compare the tokenizer of a run with its model."""

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, ModelSettings
from openwit.training.tokenizer.bpe import ClipTokenizer


def check_vocabulary(model: ModelSettings | CustomModelSettings, tokenizer: ClipTokenizer) -> None:
    """Refuse a tokenizer that has ids for which the model has no row.

    Raises:
        RecipeError: such as CLIP's tokenizer with a SigLIP model, whose own is another.
    """
    rows = model.inputs.vocabulary
    if tokenizer.vocabulary_size > rows:
        raise RecipeError(
            f"model {model.label} has {rows:,} rows of token embeddings, but the tokenizer has "
            f"{tokenizer.vocabulary_size:,} ids: set model.tokenizer to a merges file of `wit-train tokenizer`, or "
            f"model.vocabulary to {tokenizer.vocabulary_size}"
        )
