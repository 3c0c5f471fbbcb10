"""Drop reasons of deduplication, for images and for their texts."""

from openwit.pipeline.common.reasons import Reason

DUPLICATE_BYTES = Reason("duplicate_bytes", "the same file as the kept image, byte for byte")
DUPLICATE_PIXELS = Reason("duplicate_pixels", "another file with exactly the same pixels")
NEAR_DUPLICATE = Reason("near_duplicate", "looks the same: similar perceptual hashes and similar descriptors")
COPY_OF_HELD_OUT = Reason("copy_of_held_out", "a copy of an image in a held-out split, which must not be trained on")
FREQUENT_IMAGE = Reason("frequent_image", "has so many different texts that it is a logo or a placeholder")
PLAIN_IMAGE = Reason("plain_image", "of one colour, without any structure")
REMOVED = Reason("removed", "on the removal list of the recipe")
EVALUATION_IMAGE = Reason("evaluation_image", "a copy of an evaluation image")
SAME_TEXT = Reason("same_text_of_copy", "a text of a duplicate that the kept image already has")
OTHER_COLOURS = Reason(
    "other_colours", "a text of a near duplicate whose colours differ from the kept image's, so that it may not fit"
)
NOT_SURELY_SAME = Reason(
    "not_surely_same",
    "a text of a near duplicate with too little in it to tell other words, charts or drawings, so that it may not fit",
)

DEDUP_REASONS = (
    DUPLICATE_BYTES, DUPLICATE_PIXELS, NEAR_DUPLICATE, COPY_OF_HELD_OUT, FREQUENT_IMAGE, EVALUATION_IMAGE, PLAIN_IMAGE,
    REMOVED, SAME_TEXT, OTHER_COLOURS, NOT_SURELY_SAME,
)  # fmt: skip
"""In the order in which the card shows examples."""
