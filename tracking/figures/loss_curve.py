"""The figure of one training: train and dev loss over the steps, with the learning rate below."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mmsearch.tracking.figures import style

__all__ = ["loss_curve"]

_MAX_POINTS = 4000
"""Points of minibatches that are drawn: a line of 100,000 is slow and looks the same."""


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

    Points that are not finite are left out. Very high losses at the start are cut off, and the
    title says how many.

    Args:
        batch: (step, nats per character) of minibatches.
        dev: (step, nats per character) on the dev split.
        learning_rate: (step, learning rate); without any, the lower panel is left out.
        title: the trial.
        train: (step, nats per character) on a fixed part of train, with the weights that dev is
            scored with; records of version 0.1 have none.
        scored_step: step of the dev loss that is the score, which is marked; None for the last.
        is_averaged: whether train and dev are scored with averaged weights.
        has_log_steps: whether the x-axis is logarithmic, which leaves step 0 out.
    """
    first = 1.0 if has_log_steps else -math.inf
    curves = map(style.finite_points, (batch, train, dev, learning_rate))
    batch_points, train_points, dev_points, rates = (c[c[:, 0] >= first] for c in curves)
    figure = style.figure(4.0)
    below = 0.82 if len(rates) else 0.0
    losses = style.add_axes(figure, 0.82, 0.5 + below, 4.6, 2.82 - below)
    panels = [losses, style.add_axes(figure, 0.82, 0.5, 4.6, 0.64)] if len(rates) else [losses]
    if len(batch_points):
        thin = slice(None, None, math.ceil(len(batch_points) / _MAX_POINTS))
        marker = "." if len(batch_points) == 1 else ""
        losses.plot(
            *batch_points[thin].T, color=style.SKY, alpha=0.5, linewidth=0.7, marker=marker,
            label="minibatches",
        )  # fmt: skip
    averaged = ", averaged weights" if is_averaged else ""
    for points, color, name in (
        (train_points, style.BLUE, "train"),
        (dev_points, style.VERMILLION, "dev"),
    ):
        if len(points):
            marked = np.unique(np.linspace(0, len(points) - 1, 25).round().astype(int))
            losses.plot(
                *points.T, color=color, marker="o", markersize=3.5, markevery=marked.tolist(),
                label=name + averaged,
            )  # fmt: skip
    detail = ""
    values = np.concatenate([batch_points[:, 1], train_points[:, 1], dev_points[:, 1]])
    if len(values):
        # A long training has converged at most of its points, and yet its descent is the curve.
        keep = [float(np.quantile(values, 0.95)), *dev_points[-1:, 1].tolist()]
        detail = style.set_view(losses, values, keep=max(keep))
        style.legend_above(losses)
    else:
        style.note_empty(losses, "no finite losses")
    losses.set_ylabel(f"loss, {style.NATS}")
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
    if has_log:
        room = (high / low) ** 0.03 if high > low else 2.0
        style.log_axis(axes, low / room, high * room, whole=True)
    else:
        pad = 0.03 * (high - low) or 1.0
        axes.set_xlim(low - pad, high + pad)


def _mark_score(axes: Axes, dev: style.Floats, step: int | None) -> None:
    """Circle the dev loss that is the score, and write its value."""
    scored = dev[dev[:, 0] == step] if step is not None else dev[-1:]
    x, loss = (scored if len(scored) else dev)[-1].tolist()
    axes.plot([x], [loss], "o", ms=8, mfc="none", mec=style.BLACK, mew=1.1, zorder=4)
    if x == dev[-1, 0]:
        style.at_right(axes, loss, style.loss_text(loss, 3), style.VERMILLION)
        return
    axes.annotate(
        style.loss_text(loss, 3), (x, loss), (0, 8), "data", "offset points",
        ha="center", va="bottom", fontsize=8, color=style.VERMILLION, bbox=style.HALO, zorder=5,
    )  # fmt: skip


def _draw_rates(axes: Axes, rates: style.Floats) -> None:
    axes.plot(*rates.T, color=style.BLACK, linewidth=1.2, marker="." if len(rates) == 1 else "")
    low, high = float(rates[:, 1].min()), float(rates[:, 1].max())
    # A decay to almost zero reads best on a linear axis, unless most of it would lie at the bottom.
    if low > 0 and np.median(rates[:, 1]) < high / 20:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0.0, 1.15 * low), 1.15 * high or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_ylabel("learning\nrate")
