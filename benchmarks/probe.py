r"""CPU time of a linear probe's whole sweep, against scikit-learn's LogisticRegression by the same search of C.

    python benchmarks/probe.py --images 4000 --features 256 --classes 10 --equal

Both get the same float32 features (made: overlapping clouds with a spectrum that falls as that of real features), the
same validation images and the same threads, and search the penalty by the same 15 fits or so; scikit-learn works in
float64, as the paper's code does, with its default tolerance (`--tolerance`) and 1,000 iterations. Rounds are
interleaved; the median of the CPU times counts. Also printed: the accuracy of each on test images, at its own best
penalty. `--equal` then compares both at every penalty of our sweep, scikit-learn with a tolerance of 1e-10: validation
and test accuracy, iterations, and how far the objective, in float64, is above the smaller one.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from openwit.training.evaluation.probe import GRID, fit_probe, search_penalty


def made(images: int, features: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Clouds around class means, mixed, with scales from 3 down to 0.05."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    mixing = np.linalg.qr(rng.normal(size=(features, features)))[0] * np.geomspace(3, 0.05, features)
    rows = (
        rng.normal(0, 3.5 / features**0.5, (classes, features))[labels] + rng.normal(size=(images, features))
    ) @ mixing
    return rows.astype(np.float32), labels


def theirs(train: tuple, valid: tuple, test: tuple, tolerance: float) -> tuple[float, float]:
    """Best penalty and test accuracy by scikit-learn."""
    rows, others = train[0].astype(np.float64), valid[0].astype(np.float64)
    models = {}

    def score(step: int) -> float:
        models[step] = LogisticRegression(C=1 / GRID[step], max_iter=1000, tol=tolerance).fit(rows, train[1])
        return float(models[step].score(others, valid[1]))

    sweep = search_penalty(score)
    return sweep.penalty, float(models[sweep.best].score(test[0].astype(np.float64), test[1]))


def ours(train: tuple, valid: tuple, test: tuple, classes: int) -> tuple[float, float]:
    """Best penalty and test accuracy by OpenWIT."""
    probe = fit_probe(*train, classes, valid=valid, refit=False)
    return probe.head.penalty, float((probe.head.scores(test[0]).argmax(axis=1) == test[1]).mean())


def objective(part: tuple, weights: NDArray[np.float64], bias: NDArray[np.float64], penalty: float) -> float:
    """Mean loss + penalty / (2 N) |weights|², in float64."""
    logits = part[0].astype(np.float64) @ weights.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(logits)), part[1]]
    losses = np.log(np.exp(logits).sum(axis=1)) - right
    return float(losses.mean() + penalty / (2 * len(logits)) * np.square(weights).sum())


def compare(train: tuple, valid: tuple, test: tuple, classes: int) -> None:
    """Print both solutions at equal penalties."""
    probe = fit_probe(*train, classes, valid=valid, refit=False)
    rows, most, lost = train[0].astype(np.float64), 0.0, 0.0
    print("penalty, validation and test accuracy, iterations, objective above the smaller: ours / scikit-learn")
    for step in sorted(probe.heads, reverse=True):
        head, penalty = probe.heads[step], GRID[step]
        model = LogisticRegression(C=1 / penalty, max_iter=20_000, tol=1e-10).fit(rows, train[1])
        values = [
            objective(train, head.weights, head.bias, penalty),
            objective(train, model.coef_, model.intercept_, penalty),
        ]
        over = [value / min(values) - 1 for value in values]
        pairs = [
            (float((head.scores(part[0]).argmax(axis=1) == part[1]).mean()), float(model.score(part[0], part[1])))
            for part in (valid, test)
        ]
        most, lost = max(most, abs(pairs[1][0] - pairs[1][1])), max(lost, over[0])
        accuracies = "  ".join(f"{100 * mine:.2f} / {100 * other:.2f}" for mine, other in pairs)
        ended = f"{head.iterations}{'' if head.converged else ' (limit)'} / {model.n_iter_[0]}"
        print(f"{penalty:9.3g}  {accuracies}  {ended}  {over[0]:.0e} / {over[1]:.0e}", flush=True)
    print(f"largest difference of test accuracy {100 * most:.2f} points, ours above the objective {lost:.0e} at most")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of scikit-learn's gradient")
    parser.add_argument("--equal", action="store_true", help="compare at equal penalties too")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows, labels = made(2 * options.images, options.features, options.classes)
    first, second = options.images, options.images * 3 // 2
    parts = [(rows[a:b], labels[a:b]) for a, b in ((0, first), (first, second), (second, None))]
    torch.set_num_threads(options.threads)
    seconds: dict[str, list[float]] = {"scikit-learn": [], "ours": []}
    with threadpool_limits(options.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that end at 1,000 iterations
        for _ in range(options.rounds):
            for name in seconds:
                begun = time.process_time()
                found = theirs(*parts, options.tolerance) if name == "scikit-learn" else ours(*parts, options.classes)
                seconds[name].append(time.process_time() - begun)
                print(
                    f"{name}: {seconds[name][-1]:.2f} s of CPU, penalty {found[0]:.3g}, accuracy {found[1]:.4f}",
                    flush=True,
                )
        ratio = statistics.median(seconds["scikit-learn"]) / statistics.median(seconds["ours"])
        print(f"ratio {ratio:.2f}")
        if options.equal:
            compare(*parts, options.classes)


if __name__ == "__main__":
    main()
