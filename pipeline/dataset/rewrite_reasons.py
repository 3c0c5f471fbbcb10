"""Drop reasons of commands on finished datasets."""

from openwit.pipeline.common.reasons import Reason

NOT_LISTED = Reason("not_listed", "its uid is not in the list of those to keep")
CONDITION = Reason("condition", "a condition of the command does not hold of it")
SAME_UID = Reason("same_uid", "a sample with the same uid is kept of an earlier input")
SAME_URL = Reason("same_url", "an image of the same URL is kept of an earlier input")
SAME_BYTES = Reason("same_bytes", "an image with the same bytes as served is kept of an earlier input")
TEXT_DROPPED = Reason("text_dropped", "a text that a filter dropped, of an image with others that are kept")
REWRITE_REASONS = (NOT_LISTED, CONDITION, SAME_UID, SAME_URL, SAME_BYTES, TEXT_DROPPED)
