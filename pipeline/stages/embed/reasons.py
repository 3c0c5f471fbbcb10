"""Drop reasons of the stage embed."""

from openwit.pipeline.common.reasons import Reason

NO_VECTOR = Reason("no_vector", "the function found no vector for it, as for an image that it cannot read")

EMBED_REASONS = (NO_VECTOR,)
