"""The head and tail curve of a dataset as inline SVG."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

matplotlib.use("Agg")
_STYLES = {"before": ("#9aa5b1", 2.0), "drawn": ("#e07a3f", 1.6), "after": ("#2563a8", 2.0)}


def curve_svg(curves: dict[str, np.ndarray], cap: int | None) -> str:
    """Pairs a query against its rank, log-log.

    Args:
        curves: for before, drawn and after, int64 (Q,) descending.
        cap: drawn as a line where there is one.
    """
    # Without a salt of its own matplotlib names its clip paths by chance, and the card's bytes would differ.
    with plt.rc_context({"svg.hashsalt": "openwit", "font.size": 9, "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(6.4, 3.4))
        for name, counts in curves.items():
            counts = counts[counts > 0]
            color, width = _STYLES[name]
            axes.plot(np.arange(1, len(counts) + 1), counts, color=color, linewidth=width, label=name)
        if cap is not None:
            axes.axhline(cap, color="#b03030", linewidth=0.8, linestyle="--", label=f"cap {cap:,}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("query, by rank")
        axes.set_ylabel("pairs")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    svg = out.getvalue()
    return svg[svg.index("<svg") :]
