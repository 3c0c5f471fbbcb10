"""Why a term does not become a query."""

from openwit.pipeline.common.reasons import Reason

BELOW_MIN_COUNT = Reason("below_min_count", "a term seen less often than asked for")
BELOW_MIN_VIEWS = Reason("below_min_views", "a title with fewer views than asked for")
LOW_PMI = Reason("low_pmi", "two words that stand together hardly more often than chance has it")
NO_WORDS = Reason("no_words", "holds no word once normalised")
TOO_MANY_WORDS = Reason("too_many_words", "longer than queries may be")
DUPLICATE = Reason("duplicate", "a query that another source already gave")
OVER_LIMIT = Reason("over_limit", "beyond the number of queries asked for")

TERM_REASONS = (BELOW_MIN_COUNT, BELOW_MIN_VIEWS, LOW_PMI, NO_WORDS, TOO_MANY_WORDS, DUPLICATE, OVER_LIMIT)
