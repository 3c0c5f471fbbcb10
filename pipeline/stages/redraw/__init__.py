"""Stage redraw: the balance once more, among the pairs that download and deduplication kept."""
