"""Why the second draw drops a pair or an image."""

from openwit.pipeline.common.reasons import Reason

NOT_DRAWN_AGAIN = Reason("not_drawn_again", "not among the draws once lost images and copies were gone")
NO_TEXT_LEFT = Reason("no_text_left", "none of its texts was drawn again")

REDRAW_REASONS = (NOT_DRAWN_AGAIN, NO_TEXT_LEFT)
