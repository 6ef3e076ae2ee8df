"""The figure of a confirmation: the dev losses of each candidate over its fresh seeds."""

import math
import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmsearch.tracking.figures import style

__all__ = ["confirmation"]

_MAX_ROWS = 20


@style.styled
def confirmation(rows: Sequence[tuple[int, float, Sequence[float]]], *, title: str) -> Figure:
    """Draw each candidate's dev loss in the search beside those over its fresh seeds.

    A dot is a seed, the bar is the mean plus and minus one standard deviation, and the diamond is
    the dev loss in the search, which was selected for being low.

    Args:
        rows: (trial number, dev loss in the search, dev losses over the fresh seeds) in nats per
            character, best first; the first 20 are drawn. Losses that are not finite are left out.
        title: the study.
    """
    shown = rows[:_MAX_ROWS]
    figure = style.figure(1.35 + 0.3 * max(3, len(shown)))
    axes = style.add_axes(figure, 0.82, 0.5, 4.6, figure.get_size_inches()[1] - 1.18)
    for row, (_, searched, losses) in enumerate(shown):
        finite = [loss for loss in losses if math.isfinite(loss)]
        color = style.VERMILLION if row == 0 else style.BLUE
        if math.isfinite(searched):
            axes.plot(searched, row, "D", mfc="none", mec=style.GREY, ms=6, zorder=3)
        if not finite:
            continue
        mean = statistics.fmean(finite)
        sd = statistics.stdev(finite) if len(finite) > 1 else 0.0
        axes.plot([mean - sd, mean + sd], [row, row], color=color, alpha=0.25, linewidth=9)
        axes.plot([mean, mean], [row - 0.24, row + 0.24], color=color, linewidth=2)
        axes.plot(finite, [row] * len(finite), "o", color=color, ms=4, mew=0, zorder=4)
        style.at_right(axes, row, f"{mean:.4f}", color)
    axes.plot([], [], "D", mfc="none", mec=style.GREY, ms=5, label="search")
    axes.plot([], [], "o", color=style.BLUE, ms=5, mew=0, label="fresh seeds")
    axes.plot([], [], "|", color=style.BLUE, ms=8, mew=2, label="their mean, ± 1 sd")
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), [f"trial {number}" for number, *_ in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel(f"dev loss, {style.NATS}")
    style.legend_above(axes)
    is_cut = len(rows) > len(shown)
    style.set_title(axes, title, f"the first {len(shown)} of {len(rows)}" if is_cut else "")
    return figure
