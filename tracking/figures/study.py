"""The figures of a study: history, importances, trade-off and parallel coordinates.

All take plain numbers and return a `matplotlib.figure.Figure`; `style.save_figure` writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmsearch.tracking.figures import style

__all__ = ["importances", "parallel_coordinates", "study_history", "trade_off"]

_NUMBER_IN: Final = (0.24, 0.16)
"""Width and height of the number of a trial beside its point, in inches."""


@style.styled
def study_history(
    values: Sequence[tuple[int, float, str]],
    *,
    title: str,
    baselines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the dev loss of every trial, the best so far, and the baselines near them.

    Args:
        values: (trial number, dev loss in nats per character, state); only COMPLETE, PRUNED and
            FAIL trials are drawn, the failed ones on the upper edge whatever their loss.
        title: the study.
        baselines: name to dev loss; one that would flatten the chart is left out.
    """
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.7, 0.5, 4.75, 2.82)
    detail = ""
    complete, pruned = (
        style.finite_points([(n, loss) for n, loss, state in values if state == wanted])
        for wanted in ("COMPLETE", "PRUNED")
    )
    failed = [n for n, _, state in values if state == "FAIL"]
    if len(pruned):
        axes.plot(
            *pruned.T,
            "x",
            color=style.LIGHT,
            ms=5,
            label=f"pruned, fewer steps ({len(pruned)})",
        )
    if len(complete):
        label = f"complete ({len(complete)})"
        axes.plot(*complete.T, "o", color=style.BLUE, ms=4.5, mew=0, label=label)
    if len(complete) > 1:
        best = np.minimum.accumulate(complete[:, 1])
        last = max(n for n, _, _ in values)
        steps = np.append(complete[:, 0], last), np.append(best, best[-1])
        axes.step(*steps, where="post", color=style.VERMILLION, label="best complete")
    if len(complete):
        lowest = float(complete[:, 1].min())
        style.at_right(axes, lowest, style.loss_text(lowest, 3), style.VERMILLION)
    if failed:
        axes.plot(
            failed, [0.98] * len(failed), "v", transform=axes.get_xaxis_transform(),
            color=style.BLACK, ms=5, clip_on=False, label=f"failed ({len(failed)})",
        )  # fmt: skip
    if len(losses := np.concatenate([complete, pruned])[:, 1]):
        detail = style.set_view(axes, losses)
        style.draw_baselines(axes, baselines or {})
    if len(losses) == 1:
        detail = "one trial with a loss: nothing to compare yet"
    axes.set_ylabel(f"dev loss, {style.NATS}")
    style.whole_steps(axes, "trial")
    if not len(losses):
        style.note_empty(axes, "no trial has a loss")
    if failed or len(losses):
        style.legend_above(axes)
    style.set_title(axes, title, detail)
    return figure


@style.styled
def importances(shares: Mapping[str, float], *, title: str) -> Figure:
    """Draw the share of the dev loss's variance that each hyperparameter explains.

    Args:
        shares: hyperparameter to its share, from 0 to 1; not empty.
        title: the study, and how many trials the shares are estimated from.
    """
    kept = sorted((share, name) for name, share in shares.items())
    height = 0.36 * len(kept)
    figure = style.figure(1.1 + height)
    left = 0.2 + max(style.text_width(figure, name) for _, name in kept)
    axes = style.add_axes(figure, left, 0.5, style.WIDTH_IN - 0.25 - left, height)
    bars = axes.barh([name for _, name in kept], [v for v, _ in kept], 0.62, color=style.BLUE)
    axes.bar_label(bars, [f"{v:.2f}" for v, _ in kept], padding=4, fontsize=8)
    axes.set_xlim(0, max(0.1, 1.12 * kept[-1][0]))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the dev loss's variance (fANOVA)")
    detail = ""
    if len(kept) == 1:
        detail = "one hyperparameter was searched: nothing to compare"
    elif not kept[-1][0]:
        detail = "no hyperparameter explains any of it alone"
    style.set_title(axes, title, detail)
    return figure


@style.styled
def trade_off(points: Sequence[tuple[int, int, float]], *, title: str) -> Figure:
    """Draw the dev loss of complete trials against their parameters, with the Pareto front.

    The trials on the front are numbered: no other has both fewer parameters and a lower loss.

    Args:
        points: (trial number, parameters, dev loss in nats per character), at least one.
        title: the study.
    """
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.82, 0.5, 4.75, 2.82)
    kept = sorted((n, loss, number) for number, n, loss in points)
    xy = np.array([(n, loss) for n, loss, _ in kept], dtype=np.float64)
    lowest = np.minimum.accumulate(xy[:, 1])
    on_front = np.flatnonzero(np.append(True, lowest[1:] < lowest[:-1]))
    fewest, most = xy[0, 0], xy[-1, 0]
    room = max(1.01, (most / fewest) ** 0.06) if fewest < most else 1.2
    style.log_axis(axes, fewest / room, most * room, whole=True)
    axes.set(xlabel="parameters", ylabel=f"dev loss, {style.NATS}")
    axes.plot(*xy.T, "o", color=style.SKY, ms=4.5, mew=0, label="complete")
    detail = style.set_view(axes, xy[:, 1])
    if fewest < most:
        axes.step(
            *xy[on_front].T, where="post", marker="o", ms=5, color=style.VERMILLION,
            label="Pareto front",
        )  # fmt: skip
    else:
        which = "one trial" if len(kept) == 1 else f"all have {fewest:,.0f} parameters"
        detail = f"{which}: nothing to compare"
    for index in _apart(axes, xy, on_front[::-1].tolist()):
        axes.annotate(
            f"{kept[index][2]}", xy[index], (4, 4), "data", "offset points",
            fontsize=7.5, color=style.VERMILLION, bbox=style.HALO,
        )  # fmt: skip
    style.legend_above(axes)
    style.set_title(axes, title, detail)
    return figure


def _apart(axes: Axes, xy: style.Floats, order: Sequence[int]) -> list[int]:
    """Choose points, in this order, whose numbers do not overlap."""
    axes.get_xlim(), axes.get_ylim()  # settles the view
    inches = axes.transData.transform(xy) / axes.figure.dpi
    chosen: list[int] = []
    for index in order:
        if all((np.abs(inches[index] - inches[other]) >= _NUMBER_IN).any() for other in chosen):
            chosen.append(index)
    return chosen


@style.styled
def parallel_coordinates(
    rows: Sequence[tuple[Mapping[str, float], float]], *, log_axes: frozenset[str], title: str
) -> Figure:
    """Draw one line per trial through its hyperparameters to its dev loss.

    The lower the loss, the darker the line; the best lies on top, thick and orange.

    Args:
        rows: (hyperparameters, dev loss in nats per character) of each trial, at least one; all
            have the same hyperparameters, of which there may be none, and finite values.
        log_axes: hyperparameters with a logarithmic axis; one with values at or below 0 stays
            linear.
        title: the study.
    """
    rows = sorted(rows, key=lambda row: -row[1])  # the best last, so that it is drawn on top
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.15, 0.68, 4.95, 2.72)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(left=False, labelleft=False, bottom=False, pad=3)
    names = list(rows[0][0])
    if not names:
        style.note_empty(axes, "the trials differ in no number: nothing to compare")
        style.set_title(axes, title)
        return figure
    losses = np.array([loss for _, loss in rows])
    low, high = style.view(losses)
    heights, headings = np.empty((len(rows), len(names) + 1)), []
    for column, name in enumerate(names):
        values = np.array([float(parameters[name]) for parameters, _ in rows])
        log = name in log_axes and bool((values > 0).all())
        ends = float(values.min()), float(values.max())
        heights[:, column] = _draw_axis(axes, column, values, ends, log=log)
        headings.append(name.replace("_", "\n") + ("\n(log)" if log else ""))
    clipped = np.minimum(losses, high)
    heights[:, -1] = _draw_axis(axes, len(names), clipped, (low, high), log=False)
    columns = np.broadcast_to(np.arange(len(names) + 1.0), heights.shape)
    norm = Normalize(low, high)
    # viridis starts dark: the lowest loss is the darkest line.
    lines = LineCollection(
        list(np.stack([columns, heights], axis=2)), cmap="viridis", norm=norm, array=clipped,
        linewidths=1.1, alpha=0.85, zorder=2,
    )  # fmt: skip
    axes.add_collection(lines, autolim=False)
    axes.plot(columns[-1], heights[-1], color=style.VERMILLION, linewidth=2, zorder=2.5)
    axes.set(xlim=(-0.45, len(names) + 0.1), ylim=(-0.03, 1.03))
    axes.set_xticks(range(len(names) + 1), [*headings, "dev\nloss"])
    n_above = int((losses > high).sum())
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"),
        cax=figure.add_axes((5.3 / style.WIDTH_IN, 0.19, 0.1 / style.WIDTH_IN, 0.64)),
        extend="max" if n_above else "neither",
    )
    bar.set_label(f"dev loss, {style.NATS}")
    bar.outline.set_visible(False)
    detail = f"the best, {style.loss_text(losses[-1])}, in orange"
    if len(rows) == 1:
        detail = "one trial: nothing to compare"
    if n_above:
        detail += f"; {n_above} with a loss above {high:.3g}, drawn as {high:.3g}"
    style.set_title(axes, title, detail)
    return figure


def _draw_axis(
    axes: Axes, x: int, values: style.Floats, ends: tuple[float, float], *, log: bool
) -> style.Floats:
    """Draw the vertical axis at `x` in its own unit; return the values as heights in [0, 1]."""
    low, high = ends

    def height(v: style.Floats) -> style.Floats:
        if low == high:
            return np.full_like(v, 0.5)
        a, b, c = (np.log(v), np.log(low), np.log(high)) if log else (v, low, high)
        return (a - b) / (c - b)

    axes.plot([x, x], [0, 1], color=style.BLACK, linewidth=0.8, zorder=3)
    ticks = style.ticks(low, high, log=log, whole=bool((values == values.round()).all()))
    names = style.tick_labels(ticks)
    for name, y in zip(names, height(np.array(ticks)).tolist(), strict=True):
        axes.plot([x - 0.03, x], [y, y], color=style.BLACK, linewidth=0.8, zorder=3)
        axes.annotate(
            name, (x, y), (-5, 0), "data", "offset points",
            ha="right", va="center", fontsize=7.5, bbox=style.HALO, zorder=4,
        )  # fmt: skip
    return height(values)
