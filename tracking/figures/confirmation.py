"""The figure of a confirmation: the dev losses of each candidate over its fresh seeds."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmsearch.tracking.figures import style

__all__ = ["confirmation"]

_MAX_ROWS = 20
_Row = tuple[int, float, Sequence[float]]


@style.styled
def confirmation(rows: Sequence[_Row], *, title: str) -> Figure:
    """Draw each candidate's dev loss in the search beside those over its fresh seeds.

    A dot is a seed, the bar is the mean plus and minus one standard deviation, and the diamond is
    the dev loss in the search, which was selected for being low.

    Args:
        rows: (trial number, dev loss in the search, dev losses over the fresh seeds) in nats per
            character, best first; the first 20 are drawn. Losses that are not finite are left out.
        title: the study.
    """
    shown = rows[:_MAX_ROWS]
    details = _details(shown)
    if len(rows) > len(shown):
        details.append(f"the first {len(shown)} of {len(rows)}")
    height = 0.17 + 0.3 * max(3, len(shown))
    figure = style.figure(height + 1.18 + 0.16 * len(details))
    axes = style.add_axes(figure, 0.82, 0.5, 4.6, height)
    for row, (_, searched, losses) in enumerate(shown):
        finite = [loss for loss in losses if math.isfinite(loss)]
        color = style.VERMILLION if row == 0 else style.BLUE
        if math.isfinite(searched):
            axes.plot(searched, row, "D", mfc="none", mec=style.GREY, ms=6, zorder=3)
        if not finite:
            continue
        mean, sd = _mean_and_sd(finite)
        axes.plot([mean - sd, mean + sd], [row, row], color=color, alpha=0.25, linewidth=9)
        axes.plot([mean, mean], [row - 0.24, row + 0.24], color=color, linewidth=2)
        axes.plot(finite, [row] * len(finite), "o", color=color, ms=4, mew=0, zorder=4)
        style.at_right(axes, row, style.loss_text(mean), color)
    axes.plot([], [], "D", mfc="none", mec=style.GREY, ms=5, label="search")
    axes.plot([], [], "o", color=style.BLUE, ms=5, mew=0, label="fresh seeds")
    axes.plot([], [], "|", color=style.BLUE, ms=8, mew=2, label="their mean, ± 1 sd")
    if beyond := _set_view(axes, shown):
        details.append(beyond)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), [f"trial {number}" for number, *_ in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.set_xlabel(f"dev loss, {style.NATS}")
    style.legend_above(axes)
    style.set_title(axes, title, "\n".join(details))
    return figure


def _mean_and_sd(losses: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(losses), statistics.stdev(losses) if len(losses) > 1 else 0.0


def _details(rows: Sequence[_Row]) -> list[str]:
    """Return notes on what the figure cannot compare, and why."""
    counts = [sum(map(math.isfinite, losses)) for *_, losses in rows]
    n_seeds = max(counts)
    fewer = [number for (number, *_), n in zip(rows, counts, strict=True) if n < n_seeds]
    details = ["one candidate: nothing to compare"] if len(rows) == 1 else []
    if n_seeds == 1:
        details.append("one fresh seed each: their spread is unknown")
    if fewer:
        which = f"trial {fewer[0]} has" if len(fewer) == 1 else f"{len(fewer)} candidates have"
        details.append(f"{which} fewer than {n_seeds} seeds")
    return details


def _set_view(axes: Axes, rows: Sequence[_Row]) -> str:
    """Fit the x-axis to the losses, a few huge ones left out; return a note on those."""
    losses = [[x for x in (searched, *fresh) if math.isfinite(x)] for _, searched, fresh in rows]
    values = np.array([loss for row in losses for loss in row])
    if not len(values):
        return ""
    low, high = style.view(values)
    for _, _, fresh in rows:
        if (finite := [x for x in fresh if math.isfinite(x)]) and max(finite) <= high:
            mean, sd = _mean_and_sd(finite)
            low, high = min(low, mean - sd), max(high, mean + sd)
    pad = 0.04 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    n_beyond = int((values > high + pad).sum())
    return f"{n_beyond} beyond the view, up to {values.max():.3g}" if n_beyond else ""
