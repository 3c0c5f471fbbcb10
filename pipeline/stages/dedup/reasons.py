"""Why deduplication drops an image, or a text of one."""

from openwit.pipeline.common.reasons import Reason

DUPLICATE_BYTES = Reason("duplicate_bytes", "the same file as the image that stays, byte for byte")
DUPLICATE_PIXELS = Reason("duplicate_pixels", "another file that shows the same pixels to the last bit")
NEAR_DUPLICATE = Reason(
    "near_duplicate", "looks the same: hashes near each other, and alike in a finer comparison and in colours"
)
COPY_OF_HELD_OUT = Reason("copy_of_held_out", "a copy of an image in a held-out split, which must not be trained on")
FREQUENT_IMAGE = Reason(
    "frequent_image", "stands under so many different texts that it shows nothing of them: a logo, a placeholder"
)
PLAIN_IMAGE = Reason(
    "plain_image", "of one tone, stripes or a gradient: nothing to see, and no hash tells two such apart"
)
REMOVED = Reason("removed", "on the list of what may not enter the dataset")
EVALUATION_IMAGE = Reason("evaluation_image", "a copy of an image that models are evaluated on")
SAME_TEXT = Reason("same_text_of_copy", "a copy's text that the image which stays has too")

DEDUP_REASONS = (
    DUPLICATE_BYTES, DUPLICATE_PIXELS, NEAR_DUPLICATE, COPY_OF_HELD_OUT, FREQUENT_IMAGE, EVALUATION_IMAGE, PLAIN_IMAGE,
    REMOVED, SAME_TEXT,
)  # fmt: skip
"""In the order in which the card shows examples."""
