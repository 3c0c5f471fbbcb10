"""Why the selection drops a pair."""

from openwit.pipeline.common.reasons import Reason

DUPLICATE_PAIR = Reason("duplicate_pair", "the same image address with the same text, seen before")
OTHER_TEXT_OF_IMAGE = Reason("other_text_of_image", "another text of its image was kept")
NO_MATCH = Reason("no_match", "no query occurs in the text")
NEAR_EQUAL_TEXT = Reason("near_equal_text", "holds the same words as a longer text of its image")
NOT_DRAWN = Reason("not_drawn", "queries match, but each had drawn as many pairs as it may")

SELECT_REASONS = (DUPLICATE_PAIR, OTHER_TEXT_OF_IMAGE, NO_MATCH, NEAR_EQUAL_TEXT, NOT_DRAWN)
