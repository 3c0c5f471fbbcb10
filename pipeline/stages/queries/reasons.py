"""List the drop reasons of terms that do not become queries."""

from openwit.pipeline.common.reasons import Reason

BELOW_MIN_COUNT = Reason("below_min_count", "a term with fewer occurrences than min_count")
BELOW_MIN_VIEWS = Reason("below_min_views", "a title with fewer views than min_views")
LOW_PMI = Reason("low_pmi", "two words that are side by side hardly more often than by chance")
NO_WORDS = Reason("no_words", "has no word after normalisation")
TOO_MANY_WORDS = Reason("too_many_words", "has more words than max_words")
DUPLICATE = Reason("duplicate", "a query that another source has already")
OVER_LIMIT = Reason("over_limit", "beyond the limit on the number of queries")

TERM_REASONS = (BELOW_MIN_COUNT, BELOW_MIN_VIEWS, LOW_PMI, NO_WORDS, TOO_MANY_WORDS, DUPLICATE, OVER_LIMIT)
