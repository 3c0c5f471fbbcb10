"""How queries share pairs: which pairs a query draws, and how a cap is chosen. Pure functions on NumPy arrays.

Each pair and query has a uniform number u (`uniform` of `pair_hashes` and `query_hashes`), the same on every machine.
A query draws the pairs whose u is at most its threshold: the cap-th smallest (`cap_smallest`), or, as in MetaCLIP,
t / max(N, t) for a query that matches N pairs (`probabilistic_thresholds`). `keep_drawn` keeps each pair that any of
its queries drew. The rest helps to choose the cap, which MetaCLIP calls t.
"""

from openwit.pipeline.stages.select.balance import cap_smallest, probabilistic_thresholds
from openwit.pipeline.stages.select.choose_cap import (
    cap_for_tail_share,
    cap_for_target_pairs,
    expected_pairs,
    tail_share,
)
from openwit.pipeline.stages.select.draw import DrawResult, keep_drawn
from openwit.pipeline.stages.select.hash_uniform import pair_hashes, query_hashes, uniform

__all__ = [
    "DrawResult",
    "cap_for_tail_share",
    "cap_for_target_pairs",
    "cap_smallest",
    "expected_pairs",
    "keep_drawn",
    "pair_hashes",
    "probabilistic_thresholds",
    "query_hashes",
    "tail_share",
    "uniform",
]
