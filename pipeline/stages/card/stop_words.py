"""Know the commonest English words, which a reader of the card may hide from its lists of queries."""

STOP_WORDS = frozenset(
    (
        "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been",
        "before", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he",
        "her", "here", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "like", "made",
        "make", "may", "me", "more", "most", "my", "new", "no", "not", "now", "of", "off", "on", "one", "only",
        "or", "other", "our", "out", "over", "s", "she", "so", "some", "such", "t", "than", "that", "the",
        "their", "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "two",
        "under", "up", "us", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who",
        "why", "will", "with", "without", "you", "your",
    )
)  # fmt: skip


def is_stop(query: str) -> bool:
    """Return whether a query consists of such words only."""
    return all(word in STOP_WORDS for word in query.split())
