"""Drop reasons of the redraw, for pairs and images."""

from openwit.pipeline.common.reasons import Reason

NOT_DRAWN_AGAIN = Reason("not_drawn_again", "not drawn by the redraw among the fetched images")
NO_TEXT_LEFT = Reason("no_text_left", "none of its texts was drawn by the redraw")

REDRAW_REASONS = (NOT_DRAWN_AGAIN, NO_TEXT_LEFT)
