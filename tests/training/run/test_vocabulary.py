"""A tokenizer with ids for which the model has no row is refused before anything is computed."""

import pytest

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ModelSettings
from openwit.training.config.zoo import ZOO
from openwit.training.run.vocabulary import check_vocabulary
from openwit.training.tokenizer.bpe import VOCABULARY_SIZE, clip_tokenizer


@pytest.mark.parametrize("name", ZOO)
def test_clips_tokenizer_fits_the_models_that_have_its_vocabulary(name):
    settings = ModelSettings(name=name)
    if settings.inputs.vocabulary >= VOCABULARY_SIZE:
        check_vocabulary(settings, clip_tokenizer())
        return
    with pytest.raises(RecipeError, match=r"32,000 rows of token embeddings, but the tokenizer has 49,408 ids"):
        check_vocabulary(settings, clip_tokenizer())
    check_vocabulary(ModelSettings(name=name, vocabulary=VOCABULARY_SIZE), clip_tokenizer())
