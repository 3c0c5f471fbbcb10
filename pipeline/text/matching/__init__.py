"""Find which queries occur in a caption, by compiled kernels on Arrow's buffers. `Matcher` is the public entry point.

Steps, one module each:
    rows, row_kernel     captions -> rows of normalised words (UTF-8, one space after each word)
    character_tables     the result of `normalise` for each Unicode character, as arrays for the kernel
    words                word -> word number, by an open-addressing hash table
    runs                 word numbers -> answers, by an Aho-Corasick automaton over word numbers
    ids                  answers -> query ids, ascending, each once per caption
    index                the tables below, built from a query list, saved and mapped from a file
    array_file           arrays written to a checked file and mapped from it
    matcher              the public class: blocks of captions in, a list column of query ids out

Data layout (all arrays read-only, shared by mapping the index file):
    words    uint64 (slots, 4): key, key, length << 32 | word number + 1, packed node
    edges    uint64 (slots, 2): node << 32 | word number, packed node of the child
    sieve    uint64: a Bloom filter with one hash over the keys of `edges`
    nodes    int32 (N, 4): failure link, dictionary suffix link, answer, node to continue from
    group_starts, group_ids: queries that are equal once normalised, which share one answer

Terms in these modules:
    run      consecutive words of a caption that spell a prefix of some query
    node     a prefix of some query: a trie node. Nodes below the number of words are single words
    sieve    the Bloom filter that rejects most pairs of words before the hash table of edges is read
    answer   a query id or, from the number of queries on, number of queries + group; -1 for none
    packed node   answer << 32 | node << 1 | whether the node has children

Constants such as hash multipliers are repeated in each kernel module on purpose: numba's cache on disk is keyed by the
one file in which a kernel is defined, so a constant changed in another file would not invalidate the machine code.
"""
