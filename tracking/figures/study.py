"""The figures of a trial and of its study: loss curve, history, importances, space.

All take plain numbers and return a `matplotlib.figure.Figure`; `style.save_png` writes it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from mmsearch.tracking.figures import style

__all__ = ["importances", "loss_curve", "parallel_coordinates", "study_history", "trade_off"]

_NATS = "nats per character"
_NUMBER_IN: Final = (0.24, 0.16)
"""Width and height of a trial's number beside its point."""
_HALO: Final[dict[str, Any]] = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.8}


def _points(pairs: Sequence[tuple[float, float]]) -> style.Floats:
    """Return the finite points in order of their first number; float64, shape (N, 2)."""
    points = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    return points[np.argsort(points[:, 0], kind="stable")]


# --- loss curve -----------------------------------------------------------------------------------


@style.styled
def loss_curve(  # noqa: PLR0913 (what is known of one training)
    batch: Sequence[tuple[int, float]],
    dev: Sequence[tuple[int, float]],
    learning_rate: Sequence[tuple[int, float]],
    *,
    title: str,
    train: Sequence[tuple[int, float]] = (),
    scored_step: int | None = None,
    is_averaged: bool = False,
    has_log_steps: bool = False,
) -> Figure:
    """Draw train and dev loss over the steps, with the learning rate below.

    Args:
        batch: (step, nats per character) of minibatches; drawn light.
        dev: (step, nats per character) of the dev split.
        learning_rate: (step, learning rate); without any, the lower panel is left out.
        title: what was trained.
        train: (step, nats per character) of a fixed part of train, scored with the weights that
            dev is scored with; without any, a moving mean of `batch` takes its place.
        scored_step: step of the dev loss that is the score, which is marked and written out;
            None for the last one.
        is_averaged: whether train and dev are scored on a mean of the weights that the minibatches
            meet.
        has_log_steps: whether the x-axis is logarithmic, which leaves step 0 out.

    Points that are not finite are left out. Very high losses at the start are cut off, and the
    figure says how many.
    """
    first = 1.0 if has_log_steps else -math.inf
    batch_points, train_points, dev_points, rates = (
        points[points[:, 0] >= first] for points in map(_points, (batch, train, dev, learning_rate))
    )
    figure = style.figure(4.0)
    below = 0.82 if len(rates) else 0.0
    losses = style.add_axes(figure, 0.82, 0.5 + below, 4.6, 2.82 - below)
    panels = [losses, style.add_axes(figure, 0.82, 0.5, 4.6, 0.64)] if len(rates) else [losses]
    detail = ""
    if len(batch_points):
        _draw_batches(losses, batch_points, has_mean=not len(train_points))
    averaged = ", averaged weights" if is_averaged else ""
    if len(train_points):
        _draw_evaluations(losses, train_points, style.BLUE, "train" + averaged)
    if len(dev_points):
        _draw_evaluations(losses, dev_points, style.VERMILLION, "dev" + averaged)
    values = np.concatenate([batch_points[:, 1], train_points[:, 1], dev_points[:, 1]])
    if len(values):
        detail = style.set_view(losses, values, keep=dev_points[-1, 1] if len(dev_points) else None)
        style.legend_above(losses)
    else:
        style.say_empty(losses, "no finite losses")
    losses.set_ylabel(f"loss, {_NATS}")
    style.set_title(losses, title, detail)
    if len(rates):
        losses.tick_params(labelbottom=False)
        _draw_rates(panels[1], rates)
    steps = np.concatenate([batch_points, train_points, dev_points, rates])[:, 0]
    for axes in panels:
        _set_steps(axes, steps, has_log=has_log_steps)
    panels[-1].set_xlabel("step")
    if len(dev_points):
        _mark_score(losses, dev_points, scored_step)
    return figure


def _set_steps(axes: Axes, steps: style.Floats, *, has_log: bool) -> None:
    """Fit the x-axis to the steps."""
    style.whole_steps(axes, "")
    if not len(steps):
        return
    low, high = float(steps.min()), float(steps.max())
    if not has_log:
        pad = 0.03 * (high - low) or 1.0
        axes.set_xlim(low - pad, high + pad)
        return
    axes.set_xscale("log")
    room = (high / low) ** 0.03 if high > low else 2.0
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high, log=True, whole=True)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_evaluations(axes: Axes, points: style.Floats, color: str, label: str) -> None:
    marked = np.unique(np.linspace(0, len(points) - 1, 25).round().astype(int))
    axes.plot(
        *points.T, color=color, marker="o", markersize=3.5, label=label, markevery=marked.tolist()
    )


def _mark_score(axes: Axes, dev: style.Floats, step: int | None) -> None:
    """Ring the dev loss that is the score, and write it out."""
    index = len(dev) - 1
    if step is not None and (found := np.flatnonzero(dev[:, 0] == step)).size:
        index = int(found[0])
    x, loss = dev[index].tolist()
    text = f"{loss:.3f}"
    axes.plot(
        [x], [loss], "o", markersize=8, markerfacecolor="none", markeredgecolor=style.BLACK,
        markeredgewidth=1.1, zorder=4,
    )  # fmt: skip
    if index == len(dev) - 1:
        style.at_right(axes, loss, text, style.VERMILLION)
        return
    axes.annotate(
        text, (x, loss), (0, 8), "data", "offset points",
        ha="center", va="bottom", fontsize=8, color=style.VERMILLION, bbox=_HALO, zorder=5,
    )  # fmt: skip


def _draw_batches(axes: Axes, points: style.Floats, *, has_mean: bool) -> None:
    window = max(1, len(points) // 40) | 1
    if window == 1 and has_mean:
        axes.plot(
            *points.T, color=style.BLUE, marker="." if len(points) == 1 else "", label="train"
        )
        return
    # A line of 100,000 points is slow to draw and looks like one of 4,000.
    thin = slice(None, None, math.ceil(len(points) / 4000))
    raw = points[thin]
    label = "train minibatches" if has_mean else "minibatches"
    axes.plot(*raw.T, color=style.SKY, alpha=0.4, linewidth=0.7, label=label)
    if not has_mean:
        return
    total = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    index = np.arange(len(points))
    # At both ends the mean is over the part of the window that there is.
    after = np.minimum(index + window // 2 + 1, len(points))
    first = np.maximum(index - window // 2, 0)
    mean = (total[after] - total[first]) / (after - first)
    axes.plot(
        points[thin, 0], mean[thin], color=style.BLUE, label=f"train, mean of {window} points"
    )


def _draw_rates(axes: Axes, rates: style.Floats) -> None:
    axes.plot(*rates.T, color=style.BLACK, linewidth=1.2, marker="." if len(rates) == 1 else "")
    low, high = float(rates[:, 1].min()), float(rates[:, 1].max())
    # A decay to (nearly) zero reads best on a linear axis; only where most of the schedule would
    # lie on the floor of one is the axis logarithmic.
    if low > 0 and np.median(rates[:, 1]) < high / 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda _y, _: ""))
    else:
        axes.set_ylim(min(0.0, 1.15 * low), 1.15 * high or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], min_n_ticks=2))
    axes.set_ylabel("learning\nrate")


# --- study ----------------------------------------------------------------------------------------


@style.styled
def study_history(
    values: Sequence[tuple[int, float, str]],
    *,
    title: str,
    baselines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the dev loss of every trial, the best so far, and the baselines that lie near.

    Args:
        values: (trial number, dev loss in nats per character, state), the state being "COMPLETE",
            "PRUNED" or "FAIL"; trials in any other state are left out. A failed trial is marked
            on the upper edge, whatever its loss.
        title: the study's name.
        baselines: name to dev loss. One that would flatten the chart is left out.
    """
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.7, 0.5, 4.75, 2.82)
    detail = ""
    complete, pruned = (
        _points([(n, loss) for n, loss, state in values if state == wanted])
        for wanted in ("COMPLETE", "PRUNED")
    )
    failed = [n for n, _, state in values if state == "FAIL"]
    if len(pruned):
        axes.plot(*pruned.T, "x", color=style.LIGHT, markersize=5, label=f"pruned ({len(pruned)})")
    if len(complete):
        label = f"complete ({len(complete)})"
        axes.plot(
            *complete.T, "o", color=style.BLUE, markersize=4.5, markeredgewidth=0, label=label
        )
        best = np.minimum.accumulate(complete[:, 1])
        last = max(n for n, _, _ in values)
        steps = np.append(complete[:, 0], last), np.append(best, best[-1])
        axes.step(*steps, where="post", color=style.VERMILLION, label="best so far")
        style.at_right(axes, best[-1], f"{best[-1]:.3f}", style.VERMILLION)
    if failed:
        axes.plot(
            failed, [0.98] * len(failed), "v", transform=axes.get_xaxis_transform(),
            color=style.BLACK, markersize=5, clip_on=False, label=f"failed ({len(failed)})",
        )  # fmt: skip
    if len(losses := np.concatenate([complete, pruned])[:, 1]):
        detail = style.set_view(axes, losses)
        style.draw_baselines(axes, baselines or {}, float(best[-1]) if len(complete) else None)
    if axes.lines:
        style.legend_above(axes)
    else:
        style.say_empty(axes, "no finished trials")
    axes.set_ylabel(f"dev loss, {_NATS}")
    style.whole_steps(axes, "trial")
    style.set_title(axes, title, detail)
    return figure


@style.styled
def importances(shares: Mapping[str, float], *, title: str) -> Figure:
    """Draw how much of the dev loss's variance each hyperparameter explains, the largest on top.

    Args:
        shares: hyperparameter to its share, from 0 to 1; what is not finite is left out.
        title: the study's name, and how many trials the shares are estimated from.
    """
    kept = sorted((v, name) for name, v in shares.items() if math.isfinite(v))
    # How wide the names are is known only once they are drawn.
    figure = style.figure(1.1 + 0.36 * max(3, len(kept)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(
        [style.shown(name) for _, name in kept], [v for v, _ in kept], 0.62, color=style.BLUE
    )
    axes.bar_label(bars, [f"{v:.2f}" for v, _ in kept], padding=4, fontsize=8)
    axes.set_xlim(0, 1.12 * max((v for v, _ in kept), default=1.0) or 1.0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the dev loss's variance (fANOVA)")
    if not kept:
        style.say_empty(axes, "no importances")
        axes.tick_params(labelleft=False)
    style.set_title(axes, title)
    return figure


@style.styled
def trade_off(points: Sequence[tuple[int, int, float]], *, title: str) -> Figure:
    """Draw the dev loss of complete trials against their parameters, with the Pareto front.

    Args:
        points: (trial number, parameters, dev loss in nats per character); those whose loss is not
            finite are left out.
        title: the study's name.

    On the front no trial has both fewer parameters and a lower loss; its trials are numbered.
    """
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.82, 0.5, 4.9, 2.82)
    kept = sorted((n, loss, number) for number, n, loss in points if n > 0 and math.isfinite(loss))
    axes.set_xscale("log")
    axes.set(xlabel="parameters", ylabel=f"dev loss, {_NATS}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if not kept:
        style.say_empty(axes, "no complete trials")
        style.set_title(axes, title)
        return figure
    xy = np.array([(n, loss) for n, loss, _ in kept], dtype=np.float64)
    lowest = np.minimum.accumulate(xy[:, 1])
    on_front = np.flatnonzero(np.append(True, lowest[1:] < lowest[:-1]))
    axes.plot(*xy.T, "o", color=style.SKY, markersize=4.5, markeredgewidth=0, label="complete")
    axes.step(
        *xy[on_front].T, where="post", marker="o", markersize=5, color=style.VERMILLION,
        label="Pareto front",
    )  # fmt: skip
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*axes.get_xlim(), log=True, whole=True)))
    detail = style.set_view(axes, xy[:, 1])
    for index in _apart(axes, xy, on_front[::-1].tolist()):
        axes.annotate(
            f"{kept[index][2]}", xy[index], (4, 4), "data", "offset points",
            fontsize=7.5, color=style.VERMILLION, bbox=_HALO,
        )  # fmt: skip
    style.legend_above(axes)
    style.set_title(axes, title, detail)
    return figure


def _apart(axes: Axes, xy: style.Floats, order: Sequence[int]) -> list[int]:
    """Choose the points, the first first, whose numbers do not touch in the axes' view."""
    axes.get_xlim(), axes.get_ylim()  # settles the view
    inches = axes.transData.transform(xy) / axes.figure.dpi
    chosen: list[int] = []
    for index in order:
        if all((np.abs(inches[index] - inches[other]) >= _NUMBER_IN).any() for other in chosen):
            chosen.append(index)
    return chosen


# --- parallel coordinates -------------------------------------------------------------------------


@style.styled
def parallel_coordinates(
    rows: Sequence[tuple[Mapping[str, float], float]], *, log_axes: frozenset[str], title: str
) -> Figure:
    """Draw one line a trial through its hyperparameters to its dev loss.

    Args:
        rows: (hyperparameters, dev loss in nats per character) of each trial; rows whose loss is
            not finite are left out. A line is broken where a trial lacks a hyperparameter.
        log_axes: the hyperparameters on a logarithmic axis; one with values at or below 0 stays
            linear.
        title: the study's name.

    The lower the loss, the darker the line; the best lies on top, thick and orange.
    """
    # Best last, so that it is drawn on top.
    rows = sorted((r for r in rows if math.isfinite(r[1])), key=lambda r: -r[1])
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.15, 0.68, 4.95, 2.72)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(left=False, labelleft=False, bottom=False, pad=3)
    if not rows:
        axes.set_xticks([])
        style.say_empty(axes, "no finished trials")
        style.set_title(axes, title)
        return figure
    names = list(
        dict.fromkeys(
            k for parameters, _ in rows for k, v in parameters.items() if math.isfinite(v)
        )
    )
    losses = np.array([loss for _, loss in rows])
    low, high = style.view(losses)
    heights, headings = np.empty((len(rows), len(names) + 1)), []
    for column, name in enumerate(names):
        values = np.array([float(parameters.get(name, math.nan)) for parameters, _ in rows])
        values[~np.isfinite(values)] = math.nan
        log = name in log_axes and not (values <= 0).any()
        heights[:, column] = _draw_axis(axes, column, values, log=log)
        headings.append(style.shown(name).replace("_", "\n") + ("\n(log)" if log else ""))
    clipped = np.minimum(losses, high)
    heights[:, -1] = _draw_axis(axes, len(names), clipped, log=False)
    columns = np.broadcast_to(np.arange(len(names) + 1.0), heights.shape)
    norm = Normalize(low, high if high > low else low + 1e-9)
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
    bar.set_label(f"dev loss, {_NATS}")
    bar.outline.set_visible(False)
    detail = f"the best, {losses[-1]:.4f}, in orange"
    if n_above:
        detail += f"; {n_above} with a loss above {high:.3g}, drawn as {high:.3g}"
    style.set_title(axes, title, detail)
    return figure


def _draw_axis(axes: Axes, x: int, values: style.Floats, *, log: bool) -> style.Floats:
    """Draw the vertical axis at `x` in its own unit, and return `values` as heights in [0, 1]."""
    known = values[~np.isnan(values)]
    low, high = float(known.min()), float(known.max())

    def height(v: style.Floats) -> style.Floats:
        if low == high:
            return np.where(np.isnan(v), v, 0.5)
        a, b, c = (np.log(v), np.log(low), np.log(high)) if log else (v, low, high)
        return (a - b) / (c - b)

    axes.plot([x, x], [0, 1], color=style.BLACK, linewidth=0.8, zorder=3)
    ticks = _ticks(low, high, log=log, whole=bool((known == known.round()).all()))
    for tick, label in zip(ticks, _labels(ticks, log=log), strict=True):
        y = float(height(np.array(tick)))
        axes.plot([x - 0.03, x], [y, y], color=style.BLACK, linewidth=0.8, zorder=3)
        axes.annotate(
            label, (x, y), (-5, 0), "data", "offset points",
            ha="right", va="center", fontsize=7.5, bbox=_HALO, zorder=4,
        )  # fmt: skip
    return height(values)


def _ticks(low: float, high: float, *, log: bool, whole: bool) -> list[float]:
    """Choose round numbers from `low` to `high`; on a log axis the fewest that suffice."""
    if low == high:
        return [low]
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            ticks = [f * 10.0**p for p in powers for f in factors]
            ticks = [t for t in ticks if low <= t <= high]
            if len(ticks) >= 3:  # noqa: PLR2004  # enough to read a scale from
                return ticks
        # Less than a decade: as on a linear axis.
    locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(t) for t in locator.tick_values(low, high) if low <= t <= high]


def _labels(ticks: Sequence[float], *, log: bool) -> list[str]:
    """Write ticks, those of a linear axis with equally many decimals."""
    labels = [f"{tick:g}" for tick in ticks]
    if log or any("e" in label for label in labels):
        return labels
    n_decimals = max(len(label.partition(".")[2]) for label in labels)
    return [f"{tick:.{n_decimals}f}" for tick in ticks]
