"""Match runs of words by an automaton over word numbers, compiled: the second half of matching.

A run of words that begins some query is a node of a trie; nodes below the number of words are the words themselves.
An edge is found by its exact key (node, word), so runs are never confused. The trie is walked as Aho and Corasick
do (Communications of the ACM 18, 1975): time is linear in the words and the matches of a text, for any list.
Short texts, which are nearly all, are followed from each of their words instead, one step at a time for many texts
together: the same work as long as texts are short, and steps that do not wait for one another.

Tables, all plain arrays:
    packed nodes: uint64, answer << 32 | node << 1 | whether some query continues from the node.
    edges: uint64 (slots, 2), open addressing: node << 32 | word; the packed node it leads to, or 0 in an empty slot.
    sieve: uint64, one bit for a hash of each edge: most words have no edge, and a lookup in the near cache rejects
        them.
    nodes: int32 (N, 4): the failure link, the next longest run with an answer that ends here, the answer, the node
        to continue from.
An answer is the one query of a node, or, from the number of queries on, a group of equal queries; -1 is none.
"""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="no-any-return,assignment,return-value,arg-type,call-overload"

import numpy as np

from openwit.pipeline.common.compiled import compiled
from openwit.pipeline.text.matching.words import UNKNOWN

NONE = -1
_LOW_HALF = np.uint64(0xFFFFFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)
_U0, _U1, _U6 = np.uint64(0), np.uint64(1), np.uint64(6)
_U32, _U63 = np.uint64(32), np.uint64(63)
# From this many words on, a text is long: the automaton, and a record of each answer given, limit the work.
_LONG = 64


@compiled
def _edge_hash(key: np.uint64) -> np.uint64:
    mixed = key * _MIX_A
    mixed ^= mixed >> _U32
    return mixed * _MIX_B


@compiled
def _find_edge(edges: np.ndarray, key: np.uint64, mixed: np.uint64) -> int:
    """Return the slot of an edge; if it is absent, -1 - the empty slot it would take."""
    mask = np.uint64(edges.shape[0] - 1)
    slot = np.int64((mixed >> _U32) & mask)
    while edges[slot, 1] != _U0:
        if edges[slot, 0] == key:
            return slot
        slot = np.int64(np.uint64(slot + 1) & mask)
    return -1 - slot


@compiled
def _node(packed: np.uint64) -> int:
    return np.int64((packed & _LOW_HALF) >> _U1)


@compiled
def _passes(sieve: np.ndarray, mixed: np.uint64) -> np.uint64:
    """Return 1 if an edge of this hash may exist, or 0."""
    bit = mixed >> _U32
    return (sieve[np.int64((bit >> _U6) & np.uint64(sieve.shape[0] - 1))] >> (bit & _U63)) & _U1


@compiled
def _child(edges: np.ndarray, sieve: np.ndarray, node: int, word: int) -> int:
    """Return the node one word on, or -1."""
    key = (np.uint64(node) << _U32) | np.uint64(word)
    mixed = _edge_hash(key)
    if _passes(sieve, mixed) == _U0:
        return NONE
    slot = _find_edge(edges, key, mixed)
    return _node(edges[slot, 1]) if slot >= 0 else NONE


@compiled
def _room(values: np.ndarray, needed: int) -> np.ndarray:
    """Return a copy of the values with room for `needed`. Call it only when short: passing arrays costs time."""
    larger = np.empty(max(needed, 2 * len(values)), values.dtype)
    for place in range(len(values)):  # a slice would compile for seconds
        larger[place] = values[place]
    return larger


@compiled
def _long_answers(
    packed: np.ndarray,
    begin: int,
    end: int,
    edges: np.ndarray,
    sieve: np.ndarray,
    nodes: np.ndarray,
    seen: np.ndarray,
    found: np.ndarray,
    count: int,
) -> tuple[int, np.ndarray]:
    """Write the answers of a long row, each once, by the automaton. `seen` records them; it is all false before."""
    state = NONE
    for i in range(begin, end):
        word_of = packed[i]
        if word_of == UNKNOWN:
            state = NONE
            continue
        word = _node(word_of)
        answer = np.int64(word_of) >> 32
        child = NONE
        while state != NONE:
            child = _child(edges, sieve, state, word)
            if child != NONE:
                break
            state = np.int64(nodes[state, 0])
        if count == len(found):
            found = _room(found, count + 1)
        if answer != NONE and not seen[answer]:
            found[count] = answer
            count += 1
            seen[answer] = True
        if child == NONE:
            state = word if word_of & _U1 else NONE
            continue
        state = np.int64(nodes[child, 3])
        while child != NONE:
            answer = np.int64(nodes[child, 2])
            if answer != NONE:
                if seen[answer]:
                    break
                seen[answer] = True
                if count == len(found):
                    found = _room(found, count + 1)
                found[count] = answer
                count += 1
            child = np.int64(nodes[child, 1])
    return count, found


@compiled
def _follow(
    packed: np.ndarray, starts: np.ndarray, edges: np.ndarray, sieve: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find runs of two words and more in the short rows, by length.

    Returns:
        Where each run begins, int64, ascending within a length; its packed node, uint64; where each length begins.
    """
    places, found = np.empty(len(packed) + 64, np.int64), np.empty(len(packed) + 64, np.uint64)
    levels = np.zeros(2, np.int64)
    # Filled without a branch: a place that does not pass is overwritten by the next.
    n = 0
    for row in range(len(starts) - 1):
        if starts[row + 1] - starts[row] > _LONG:
            continue
        for i in range(starts[row], starts[row + 1] - 1):
            mixed = _edge_hash((np.uint64(_node(packed[i])) << _U32) | np.uint64(_node(packed[i + 1])))
            places[n] = i
            n += np.int64(_passes(sieve, mixed) & packed[i])
    total = 0
    for i in range(n):
        at = places[i]
        key = (np.uint64(_node(packed[at])) << _U32) | np.uint64(_node(packed[at + 1]))
        slot = _find_edge(edges, key, _edge_hash(key))
        if slot >= 0:
            places[total], found[total] = at, edges[slot, 1]
            total += 1
    begin, words = 0, 2
    while begin < total:
        end = total
        if words >= len(levels):
            levels = _room(levels, words + 1)
        levels[words - 1] = end
        for i in range(begin, end):
            if found[i] & _U1:
                key = (np.uint64(_node(found[i])) << _U32) | np.uint64(_node(packed[places[i] + words]))
                slot = _find_edge(edges, key, _edge_hash(key))
                if slot >= 0:
                    if total == len(places):
                        places, found = _room(places, total + 1), _room(found, total + 1)
                    places[total], found[total] = places[i], edges[slot, 1]
                    total += 1
        begin = end
        words += 1
    return places[:total], found[:total], levels[: words - 1]


@compiled
def _short_answers(
    packed: np.ndarray,
    begin: int,
    end: int,
    places: np.ndarray,
    runs: np.ndarray,
    levels: np.ndarray,
    nexts: np.ndarray,
    found: np.ndarray,
    count: int,
) -> int:
    """Write the answers of a short row: of its words, and of the runs from `_follow`.

    nexts: next run of each length. Returns where the answers end.
    """
    for i in range(begin, end):
        answer = np.int64(packed[i]) >> 32
        found[count] = answer
        count += np.int64(answer != NONE)
    for level in range(len(levels) - 1):
        while nexts[level] < levels[level + 1] and places[nexts[level]] < end:
            answer = np.int64(runs[nexts[level]]) >> 32
            found[count] = answer
            count += np.int64(answer != NONE)
            nexts[level] += 1
    return count


@compiled
def answer_rows(
    packed: np.ndarray,
    starts: np.ndarray,
    edges: np.ndarray,
    sieve: np.ndarray,
    nodes: np.ndarray,
    answers: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the answers of each row.

    Args:
        packed, starts: the words of the rows, from `words.look_up_rows`.
        edges, sieve, nodes: from `grow_trie` and `link_nodes`.
        answers: number of answers, queries and groups.

    Returns:
        Answers, int32, unordered, with repeats; where each row's begin, int64 (N + 1,).
    """
    rows = len(starts) - 1
    offsets = np.zeros(rows + 1, np.int64)
    seen = np.zeros(0, np.bool_)
    places, runs, levels = _follow(packed, starts, edges, sieve)
    nexts = levels.copy()
    # Short rows fit; long ones enlarge the array.
    found = np.empty(len(packed) + len(runs) + 1, np.int32)
    total = 0
    for row in range(rows):
        begin, end = starts[row], starts[row + 1] - 1
        if end - begin < _LONG:
            total = _short_answers(packed, begin, end, places, runs, levels, nexts, found, total)
        else:
            if len(seen) == 0:
                seen = np.zeros(answers, np.bool_)
            more, found = _long_answers(packed, begin, end, edges, sieve, nodes, seen, found, total)
            for i in range(total, more):
                seen[found[i]] = False
            total = more
            left = len(packed) - end + len(runs) + 1
            if total + left > len(found):
                found = _room(found, total + left)
        offsets[row + 1] = total
    return found[:total], offsets


@compiled
def grow_trie(
    sequence: np.ndarray, offsets: np.ndarray, known: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make a node of every beginning of a query, short ones first.

    Args:
        sequence, offsets, known: from `words.number_words`.

    Returns:
        Table of edges, with packed nodes that have a number only; parents and last words of the nodes from number
        `known` on, int32; the node of each query, -1 for one without words, int32 (Q,).
    """
    queries = len(offsets) - 1
    edges = np.zeros((1 << 10, 2), np.uint64)
    parents = np.empty(1 << 10, np.int32)
    lasts = np.empty(1 << 10, np.int32)
    ends = np.full(queries, NONE, np.int32)
    active = np.empty(queries, np.int64)
    alive, nodes = 0, known
    for query in range(queries):
        if offsets[query] < offsets[query + 1]:
            ends[query] = sequence[offsets[query]]
            active[alive] = query
            alive += 1
    depth = 1
    while alive > 0:
        kept = 0
        for i in range(alive):
            query = active[i]
            if offsets[query] + depth == offsets[query + 1]:
                continue
            word = sequence[offsets[query] + depth]
            key = (np.uint64(ends[query]) << _U32) | np.uint64(word)
            slot = _find_edge(edges, key, _edge_hash(key))
            if slot >= 0:
                ends[query] = _node(edges[slot, 1])
            else:
                edges[-1 - slot, 0], edges[-1 - slot, 1] = key, np.uint64(nodes) << _U1
                if nodes - known == len(parents):
                    parents, lasts = _room(parents, nodes - known + 1), _room(lasts, nodes - known + 1)
                parents[nodes - known], lasts[nodes - known] = ends[query], word
                ends[query] = nodes
                nodes += 1
                if 2 * (nodes - known) > len(edges):
                    edges = _regrown_edges(edges)
            active[kept] = query
            kept += 1
        alive = kept
        depth += 1
    return edges, parents[: nodes - known].copy(), lasts[: nodes - known].copy(), ends


@compiled
def _regrown_edges(edges: np.ndarray) -> np.ndarray:
    larger = np.zeros((2 * len(edges), 2), np.uint64)
    for row in range(len(edges)):
        if edges[row, 1] != _U0:
            slot = -1 - _find_edge(larger, edges[row, 0], _edge_hash(edges[row, 0]))
            larger[slot] = edges[row]
    return larger


@compiled
def link_nodes(
    edges: np.ndarray,
    parents: np.ndarray,
    lasts: np.ndarray,
    known: int,
    answers: np.ndarray,
    sieve: np.ndarray,
) -> np.ndarray:
    """Fill the sieve in place and return the table of nodes.

    Args:
        edges, parents, lasts, known: from `grow_trie`.
        answers: int32 (N,), the answer of each node or -1.
        sieve: uint64, zeros; a power of two of them.
    """
    total = known + len(parents)
    nodes = np.full((total, 4), NONE, np.int32)
    longest = np.full(total, NONE, np.int32)
    grows = np.zeros(total, np.bool_)
    for i in range(len(parents)):
        grows[parents[i]] = True
        bit = _edge_hash((np.uint64(parents[i]) << _U32) | np.uint64(lasts[i])) >> _U32
        sieve[np.int64((bit >> _U6) & np.uint64(len(sieve) - 1))] |= _U1 << (bit & _U63)
    for node in range(total):
        nodes[node, 2] = answers[node]
        if node >= known:
            parent, word = np.int64(parents[node - known]), np.int64(lasts[node - known])
            # The longest other beginning of a query that this run ends with: at least its last word.
            suffix, child = np.int64(longest[parent]), NONE
            while suffix != NONE:
                child = _child(edges, sieve, suffix, word)
                if child != NONE:
                    break
                suffix = np.int64(longest[suffix])
            longest[node] = child if suffix != NONE else word
            behind = np.int64(longest[node])
            nodes[node, 0] = nodes[behind, 3]
            if behind >= known:
                # The answer of a single word is always given with the word.
                nodes[node, 1] = behind if answers[behind] != NONE else nodes[behind, 1]
        nodes[node, 3] = node if grows[node] else nodes[node, 0]
    return nodes
