"""The figure of a learning-rate range test: the loss at each rate, and the suggested range."""

import numpy as np
from matplotlib.figure import Figure

from mmsearch.tracking.figures import style

__all__ = ["lr_range"]


@style.styled
def lr_range(  # noqa: PLR0913 (what one figure shows)
    learning_rates: style.Floats,
    losses: style.Floats,
    means: style.Floats,
    suggested: tuple[float, float] | None,
    *,
    title: str,
    detail: str = "",
) -> Figure:
    """Draw the losses of a range test against the learning rate, on a log axis.

    Each step of each seed is a point. The line is the median of the moving means, and the band
    reaches from the lowest to the highest of them; it is open above where a seed has diverged.

    Args:
        learning_rates: of the steps, ascending, shape (S,).
        losses: minibatch losses of each seed in nats per character, shape (n_seeds, S); infinite
            once a seed has diverged.
        means: moving means of `losses`, same shape.
        suggested: both ends of the suggested range; None where there is none.
        title: the study.
        detail: what was trained.
    """
    figure = style.figure(4.0)
    axes = style.add_axes(figure, 0.82, 0.5, 4.9, 2.82)
    style.log_axis(axes, learning_rates[0], learning_rates[-1], whole=False)
    middle, low, high = np.median(means, axis=0), means.min(axis=0), means.max(axis=0)
    finite = np.isfinite(middle)
    if not finite.any():
        style.note_empty(axes, "no finite losses")
    else:
        points = losses[np.isfinite(losses)]
        bottom, top = _view(low[finite], middle[finite])
        rates = np.broadcast_to(learning_rates, losses.shape)[np.isfinite(losses)]
        axes.plot(rates, points, ".", color=style.SKY, alpha=0.4, markersize=2.2, markeredgewidth=0)
        axes.plot([], [], ".", color=style.SKY, markersize=6, label="minibatches")
        if len(losses) > 1:
            axes.fill_between(
                learning_rates, low, np.where(np.isfinite(high), high, 10 * top), where=finite,
                color=style.BLUE, alpha=0.2, linewidth=0, label=f"{len(losses)} seeds",
            )  # fmt: skip
        axes.plot(
            learning_rates[finite], middle[finite], color=style.BLUE,
            label="median of moving means" if len(losses) > 1 else "moving mean",
        )  # fmt: skip
        if suggested is not None:
            axes.axvspan(*suggested, color=style.GREEN, alpha=0.15, linewidth=0, label="suggested")
        axes.set_ylim(bottom, top)
        style.legend_above(axes)
    axes.set(xlabel="learning rate", ylabel=f"loss, {style.NATS}")
    style.set_title(axes, title, detail)
    return figure


def _view(low: style.Floats, middle: style.Floats) -> tuple[float, float]:
    """Return both ends of the y-axis: the lowest loss and the loss at the start, with margins."""
    fall = max(3 * style.MIN_VIEW, float(middle[0] - low.min()))
    return float(low.min()) - 0.15 * fall, float(middle[0]) + 0.25 * fall
