"""Embed a split and search exactly, beside plain restatements: open_clip's usual loop, and one product in NumPy.

    python benchmarks/search.py MODEL DATASET --split val        # embedding
    python benchmarks/search.py --vectors 200000                 # search only

The peer of embedding is the loop of open_clip's documentation: each image opened, `preprocess`, a batch,
`encode_image`, one after the other. The peers of search are NumPy (`queries @ vectors.T`, `argpartition`), which holds
all vectors and scores, and faiss's IndexFlatIP where it is installed. Results are compared: the same nearest in the
same order.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openwit.training.checkpoints.load import load_model
from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.search.exact import exact_search
from openwit.training.evaluation.search.vectors import BLOCK
from openwit.training.evaluation.search.write import EmbedSettings, write_embeddings


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the fastest of some runs in seconds of CPU and the result; other work on the machine adds to the rest."""
    best, result = float("inf"), None
    for _ in range(repeats):
        before = time.process_time()
        result = work()
        best = min(best, time.process_time() - before)
    return best, result


def search(count: int, dimension: int, queries: int, k: int, repeats: int) -> None:
    """Compare exact searches among random vectors stored as float16."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(count, dimension))
        for start in range(0, count, BLOCK):
            part = rng.standard_normal((min(BLOCK, count - start), dimension), dtype=np.float32)
            stored[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        asked = np.array(stored[rng.integers(0, count, queries)], dtype=np.float32)

        def ours() -> Any:
            array = np.load(path, mmap_mode="r")
            blocks = ((at, np.asarray(array[at : at + BLOCK], np.float32)) for at in range(0, count, BLOCK))
            return exact_search(blocks, asked, k).numbers

        def plain() -> Any:
            scores = asked @ np.load(path).astype(np.float32).T
            first = np.argpartition(-scores, k, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(scores, first, axis=1), axis=1, kind="stable")
            return np.take_along_axis(first, order, axis=1)

        print(f"exact search, {queries} queries among {count:,} x {dimension} float16, k {k}:")
        own, found = timed(ours, repeats)
        print(f"  by blocks      {own:8.2f} s of CPU")
        peer, wanted = timed(plain, repeats)
        print(f"  NumPy at once  {peer:8.2f} s of CPU, {np.mean(found == wanted):.4%} equal")
        if find_spec("faiss") is not None:
            import faiss

            def flat() -> Any:
                index = faiss.IndexFlatIP(dimension)
                index.add(np.load(path).astype(np.float32))
                return index.search(asked, k)[1]

            faiss.omp_set_num_threads(torch.get_num_threads())
            peer, wanted = timed(flat, repeats)
            print(f"  faiss flat     {peer:8.2f} s of CPU, {np.mean(found == wanted):.4%} equal")


def embedding(model_path: Path, folder: Path, split: str, batch: int) -> None:
    """Compare `wit-train embed` with the usual loop."""
    # With as many threads as the loop has.
    model, dataset = replace(load_model(model_path), threads=torch.get_num_threads()), ShardedDataset(folder, split)
    count = len(dataset)

    def loop() -> Any:
        rows = []
        with torch.no_grad():
            for start in range(0, count, batch):
                images = [dataset[n].image for n in range(start, min(start + batch, count))]
                rows.append(model.model.encode_image(torch.stack([model.preprocess(image) for image in images])))
        return torch.cat(rows).numpy()

    def ours() -> Any:
        with tempfile.TemporaryDirectory() as out:
            write_embeddings(
                model, dataset, Path(out) / "e", EmbedSettings(of=["images"], dtype="float32", batch_size=batch)
            )
            return np.load(Path(out) / "e/img_emb/img_emb_0.npy")

    own, found = timed(ours, 2)
    peer, wanted = timed(loop, 2)
    print(f"embedding {count:,} images: ours {own:.1f} s of CPU, the loop {peer:.1f} s")
    print(f"  greatest difference {np.abs(found - wanted).max():.1e}")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.model is not None and arguments.dataset is not None:
        embedding(arguments.model, arguments.dataset, arguments.split, arguments.batch)
    search(arguments.vectors, arguments.dimension, arguments.queries, arguments.k, repeats=2)


if __name__ == "__main__":
    main()
