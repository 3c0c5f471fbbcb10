"""Check the plug-ins of a recipe before its first stage: a wrong name must not be found after hours of work."""

from openwit.pipeline.readers.custom import check_readers
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.candidates.filter import load_custom_filters
from openwit.pipeline.stages.fetch.chunk import load_image_filters


def check_plugins(recipe: Recipe) -> None:
    """Import every filter and reader that a recipe names and check that it can be called.

    Raises:
        RecipeError: one cannot; names its key and what is wrong.
    """
    check_readers(recipe.candidates.readers)
    load_custom_filters(recipe.candidates)
    load_image_filters(recipe.fetch)
