r"""Captions per CPU second at 500,000 queries, against MetaCLIP's way: pyahocorasick over the spaced text.

    python benchmarks/matching.py --queries ../shared/data/queries_500k.tsv.gz \
        --captions ../shared/data/captions.parquet

Both sides give the ascending query ids of every caption, which must be the same in `metaclip` mode. The peer gets its
captions as Python strings and its automaton built; ours starts from an Arrow column and ends in one, a plain user's
input. Rows of `words` mode, which folds case and normalises Unicode besides, have no peer of the same rule: their
ratio is to the same automaton. Runs are interleaved in one process; the median of the CPU times counts.

`--repeat-to` measures on more captions than there are: real ones drawn again with a seed, half of them with two of
their words swapped. That is a larger input, not new language.
"""

import argparse
import gc
import gzip
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ahocorasick
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.text.matching.matcher import Matcher, spaced
from openwit.pipeline.text.matching.settings import MatchMode


def read_queries(path: Path) -> list[str]:
    """First column of a gzipped table of tabs with one line of heading."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        next(file)
        return [line.rstrip("\n").partition("\t")[0] for line in file]


def varied(captions: list[str], rows: int, seed: int) -> list[str]:
    """Captions drawn anew, every other one with two words swapped."""
    chance = random.Random(seed)
    made = []
    for number in range(rows):
        text = captions[chance.randrange(len(captions))]
        words = text.split(" ")
        if number % 2 and len(words) > 1:
            first, second = chance.sample(range(len(words)), 2)
            words[first], words[second] = words[second], words[first]
            text = " ".join(words)
        made.append(text)
    return made


def automaton_of(queries: list[str]) -> ahocorasick.Automaton:
    """MetaCLIP's automaton: every query between spaces."""
    automaton = ahocorasick.Automaton()
    for number, query in enumerate(queries):
        if query.strip(" "):
            automaton.add_word(f" {query} ", number)
    automaton.make_automaton()
    return automaton


def peer(automaton: ahocorasick.Automaton, captions: list[str]) -> list[list[int]]:
    """Query ids of each caption, ascending."""
    return [sorted({number for _, number in automaton.iter(spaced(caption))}) for caption in captions]


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds, and what the work returns."""
    gc.collect()
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def _peak() -> float:
    """Most memory this process has held, MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _report_memory(queries: list[str], mode: MatchMode | None) -> None:
    """In a process of its own, after what compiling takes: what building adds to the memory at its peak."""
    if mode is not None:
        Matcher(queries[:100], mode).match(pa.array(["caf\u00e9"] * 100))
    before = _peak()
    kept = automaton_of(queries) if mode is None else Matcher(queries, mode)
    print(f"{mode or 'pyahocorasick':14s} {_peak() - before:.0f} MiB more at the peak of building", flush=True)
    del kept


def build_times(queries: list[str], folder: Path) -> None:
    """Prints how long building, saving and loading take, and memory."""
    modes: tuple[MatchMode, ...] = ("metaclip", "words")
    for mode in modes:
        Matcher(queries[:100], mode).match(pa.array(["caf\u00e9"] * 100))
        build, matcher = timed(lambda mode=mode: Matcher(queries, mode))  # type: ignore[misc]
        assert isinstance(matcher, Matcher)
        path = folder / f"{mode}.index"
        save, _ = timed(lambda path=path, matcher=matcher: matcher.save(path))  # type: ignore[misc]
        load, _ = timed(lambda path=path, mode=mode: Matcher.load(path, queries, mode))  # type: ignore[misc]
        size = path.stat().st_size / 2**20
        print(f"{mode:14s} build {build:.2f} s, save {save:.2f} s, load {load:.2f} s, file {size:.0f} MiB")
    for choice in (None, *modes):
        process = multiprocessing.get_context("spawn").Process(target=_report_memory, args=(queries, choice))
        process.start()
        process.join()


def measure(automaton: ahocorasick.Automaton, queries: list[str], captions: list[str], repeats: int) -> None:
    """Prints captions per CPU second of both sides, and checks that they agree."""
    column = pa.array(captions)
    matchers = {mode: Matcher(queries, mode) for mode in ("metaclip", "words")}
    runs: dict[str, Callable[[], object]] = {"pyahocorasick": lambda: peer(automaton, captions)}
    for mode, matcher in matchers.items():
        runs[f"ours, {mode}"] = lambda matcher=matcher: matcher.match(column)  # type: ignore[misc]
        matcher.match(column)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        found = {}
        for name, run in runs.items():
            spent, found[name] = timed(run)
            seconds[name].append(spent)
        if turn == 0:
            ours = found["ours, metaclip"]
            assert isinstance(ours, pa.ListArray)
            assert ours.equals(pa.array(found["pyahocorasick"], pa.list_(pa.int32()))), "the matches differ"
            print(f"{len(captions):,} captions, {len(ours.flatten()):,} matches, the same in metaclip mode")
        del found
    base = statistics.median(seconds["pyahocorasick"])
    for name, times in seconds.items():
        median = statistics.median(times)
        spread = f"{len(captions) / max(times):,.0f} to {len(captions) / min(times):,.0f}"
        print(f"{name:16s} {len(captions) / median:12,.0f} captions/CPU s ({spread})   {base / median:5.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=Path, required=True, help="gzipped table of tabs, first column `query`")
    parser.add_argument("--captions", type=Path, required=True, help="Parquet file with a column `text`")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--repeat-to", type=int, help="measure on this many captions, drawn from the file's, as well")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    queries = read_queries(arguments.queries)
    table = pq.read_table(arguments.captions, columns=["text", "source"])
    captions = [text or "" for text in table.column("text").to_pylist()]
    sources = table.column("source").to_pylist()
    print(f"{len(queries):,} queries")
    with tempfile.TemporaryDirectory() as folder:
        build_times(queries, Path(folder))
    spent, automaton = timed(lambda: automaton_of(queries))
    print(f"pyahocorasick  build {spent:.2f} s\n")
    measure(automaton, queries, captions, arguments.repeats)
    for source in sorted(set(sources)):
        print(f"\n{source}:")
        measure(
            automaton, queries, [c for c, s in zip(captions, sources, strict=True) if s == source], arguments.repeats
        )
    if arguments.repeat_to:
        print("\ndrawn anew:")
        measure(automaton, queries, varied(captions, arguments.repeat_to, arguments.seed), min(3, arguments.repeats))


if __name__ == "__main__":
    main()
