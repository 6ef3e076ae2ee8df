"""The figure of a confirmation: each candidate's dev losses over its fresh seeds.

It takes plain numbers and returns a `matplotlib.figure.Figure`; `style.save_png` writes it.
"""

import math
import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmsearch.tracking.figures import style

__all__ = ["fresh_seeds"]

_MAX_ROWS = 20


@style.styled
def fresh_seeds(rows: Sequence[tuple[int, float, Sequence[float]]], *, title: str) -> Figure:
    """Draw what the search promised of each candidate, and what its fresh seeds came to.

    Args:
        rows: (trial number, dev loss in the search, dev losses over fresh seeds), best first, in
            nats per character; losses that are not finite are left out. The first 20 are drawn.
        title: the study's name.

    A dot is a seed, the bar reaches a standard deviation of one seed to both sides of the mean,
    and the diamond is the search's own score: the one that was chosen for being low.
    """
    shown = rows[:_MAX_ROWS]
    figure = style.figure(1.35 + 0.3 * max(3, len(shown)))
    height = figure.get_size_inches()[1] - 1.18
    axes = style.add_axes(figure, 0.82, 0.5, 4.6, height)
    for row, (_, promised, losses) in enumerate(shown):
        finite = [loss for loss in losses if math.isfinite(loss)]
        color = style.VERMILLION if row == 0 else style.BLUE
        if math.isfinite(promised):
            axes.plot(promised, row, "D", mfc="none", mec=style.GREY, markersize=6, zorder=3)
        if not finite:
            continue
        mean = statistics.fmean(finite)
        sd = statistics.stdev(finite) if len(finite) > 1 else 0.0
        axes.plot([mean - sd, mean + sd], [row, row], color=color, alpha=0.25, linewidth=9)
        axes.plot([mean, mean], [row - 0.24, row + 0.24], color=color, linewidth=2)
        axes.plot(finite, [row] * len(finite), "o", color=color, markersize=4, mew=0, zorder=4)
        axes.annotate(
            f"{mean:.4f}", (1, row), (4, 0), ("axes fraction", "data"), "offset points",
            va="center", fontsize=8, color=color, annotation_clip=False,
        )  # fmt: skip
    axes.plot([], [], "D", mfc="none", mec=style.GREY, markersize=5, label="search")
    axes.plot([], [], "o", color=style.BLUE, markersize=5, mew=0, label="fresh seeds")
    axes.plot([], [], "|", color=style.BLUE, markersize=8, mew=2, label="their mean, ± 1 sd")
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), [f"trial {number}" for number, *_ in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel("dev loss, nats per character")
    style.legend_above(axes)
    n_more = len(rows) - len(shown)
    style.set_title(axes, title, f"the first {len(shown)} of {len(rows)}" if n_more else "")
    return figure
