"""Drop reasons of the selection."""

from openwit.pipeline.common.reasons import Reason

DUPLICATE_PAIR = Reason("duplicate_pair", "the same image URL with the same text as another pair")
OTHER_TEXT_OF_IMAGE = Reason("other_text_of_image", "another text of its image was kept")
NO_MATCH = Reason("no_match", "no query matches the text")
NEAR_EQUAL_TEXT = Reason("near_equal_text", "has the same words as a longer text of its image")
NOT_DRAWN = Reason("not_drawn", "queries match, but each drew other pairs up to its cap")

DEAD = Reason("dead", "its image is known to be gone, changed or left out")

SELECT_REASONS = (DUPLICATE_PAIR, OTHER_TEXT_OF_IMAGE, NO_MATCH, NEAR_EQUAL_TEXT, NOT_DRAWN, DEAD)
