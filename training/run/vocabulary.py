"""Open the tokenizer of a run, and compare it with the model and the objective."""

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, ModelSettings, TrainConfig
from openwit.training.tokenizer.file_tokenizer import FileTokenizer
from openwit.training.tokenizer.read import AnyTokenizer, read_tokenizer

# Objectives that find words by their place between the start of text and the largest id.
_OF_WORDS = ("bag_of_words", "captioning", "contrastive_captioning")


def open_tokenizer(config: TrainConfig) -> AnyTokenizer:
    """Return the tokenizer of a run.

    Raises:
        RecipeError: it does not suit the model or the objective.
        DataError: its file is missing or damaged.
    """
    tokenizer = read_tokenizer(config.model.tokenizer, config.model.clean)
    check_vocabulary(config.model, tokenizer)
    name = config.objective.name
    if isinstance(tokenizer, FileTokenizer) and name in _OF_WORDS:
        raise RecipeError(
            f"objective {name} finds words by CLIP's start and end of text, which {config.model.tokenizer} does not "
            "have: leave model.tokenizer out, or make a merges file by `wit-train tokenizer`"
        )
    return tokenizer


def check_vocabulary(model: ModelSettings | CustomModelSettings, tokenizer: AnyTokenizer) -> None:
    """Refuse a tokenizer that has ids for which the model has no row, or whose end the model does not find.

    Raises:
        RecipeError: such as CLIP's tokenizer with a SigLIP model, whose own is another.
    """
    rows = model.inputs.vocabulary
    if tokenizer.vocabulary_size > rows:
        raise RecipeError(
            f"model {model.label} has {rows:,} rows of token embeddings, but the tokenizer has "
            f"{tokenizer.vocabulary_size:,} ids: set model.tokenizer to the tokenizer.json of such weights or to a "
            f"merges file of `wit-train tokenizer`, or model.vocabulary to {tokenizer.vocabulary_size}"
        )
    if not isinstance(tokenizer, FileTokenizer):
        return
    if isinstance(model, CustomModelSettings):
        if tokenizer.pad is None:
            raise RecipeError(
                f"{model.tokenizer} does not state with which token texts are filled up: put the "
                "tokenizer_config.json that belongs to it beside it"
            )
    elif model.resolved().text.pool == "end" and tokenizer.end_of_text != tokenizer.vocabulary_size - 1:
        raise RecipeError(
            f"model {model.label} finds a text's end at the largest id, but texts of {model.tokenizer} end with "
            f"{tokenizer.end_of_text} of {tokenizer.vocabulary_size:,}: choose a SigLIP model, or a spec with "
            "text.causal: false and text.pool: last"
        )
