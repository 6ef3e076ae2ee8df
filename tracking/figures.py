"""The figures of the record: loss curve, embedding scatter, study history, importances, space.

Every function takes plain numbers and returns a `matplotlib.figure.Figure`; `save_png` writes it.
All of them share one style (Okabe-Ito colours, 6 in wide at 150 dpi, readable at 600 pixels) that
starts from matplotlib's own defaults, so a `matplotlibrc` on the machine changes nothing. pyplot is
never imported: a figure belongs to its caller, in whatever thread, and nothing global is left.
"""

import io
import math
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

__all__ = [
    "embedding_scatter",
    "importances",
    "loss_curve",
    "parallel_coordinates",
    "save_png",
    "study_history",
]

Floats = NDArray[np.float64]
P = ParamSpec("P")

# Okabe & Ito (2008), "Color universal design": told apart under every common colour blindness.
_BLUE, _SKY, _ORANGE, _VERMILLION = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
_GREEN, _BLACK, _GREY, _LIGHT = "#009E73", "#000000", "#5F5F5F", "#A8A8A8"

_NATS = "nats per character"
_FONT = "DejaVu Sans"  # ships with matplotlib: the same figure on every machine
_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titley": 1.0,  # fixed: finding a free height measures every label at every draw
    "figure.dpi": 150,
    "font.family": _FONT,
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.4,
    "savefig.dpi": "figure",
    "text.parse_math": False,  # "$" is a character like any other in a corpus or a study's name
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
_WIDTH_IN = 6.0
_TITLE_LENGTH = 72  # characters in one line of the narrowest axes
# rc_context swaps process-wide settings: two threads at once would restore each other's.
_rc_lock = threading.Lock()


@contextmanager
def _style() -> Iterator[None]:
    with _rc_lock, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # wants a dict of its own literals
        yield


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return wrapper


def save_png(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` as PNG, whole or not at all.

    The same figure gives the same bytes: no date and no version is written into the file.
    """
    buffer = io.BytesIO()
    with _style():  # ticks are made while drawing
        figure.savefig(
            buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3}
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(buffer.getbuffer())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- what the figures share -----------------------------------------------------------------------


def _figure(height_in: float, *, layout: Literal["constrained"] | None = None) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a known place, all in inches: constrained layout would draw everything twice."""
    w, h = figure.get_size_inches().tolist()
    axes = figure.add_axes((left / w, bottom / h, width / w, height / h))
    axes.yaxis.set_label_coords(-0.46 / width, 0.5)  # outside of "0.0001" at 8 points
    return axes


@cache
def _has_glyph(character: str) -> bool:
    font = font_manager.get_font(font_manager.findfont(_FONT))
    return bool(font.get_char_index(ord(character)))


def _shown(text: str) -> str:
    """`text` with what the font cannot draw written as its code point."""
    return "".join(c if c.isprintable() and _has_glyph(c) else f"U+{ord(c):04X}" for c in text)


def _set_title(axes: Axes, title: str, detail: str = "") -> None:
    title = _shown(title)
    if len(title) > _TITLE_LENGTH:
        title = title[: _TITLE_LENGTH - 1] + "…"
    above_legend = 19 if axes.get_legend() else 6
    axes.set_title(f"{title}\n{detail}".strip(), pad=above_legend)


def _legend_above(axes: Axes) -> None:
    """Put the legend in a row between title and axes, where it covers no point."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.3, borderpad=0,
        handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip


def _points(pairs: Sequence[tuple[float, float]]) -> Floats:
    """Return the finite points in order of their first number; float64, shape (N, 2)."""
    points = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    return points[np.argsort(points[:, 0], kind="stable")]


def _view(values: Floats) -> tuple[float, float]:
    """Lower and upper end of a view in which a few huge losses do not flatten the rest.

    The upper end is Tukey's far-out fence (1977), three interquartile ranges above the third
    quartile, but only where the values beyond it would take more than half of the height.
    """
    low, high = float(values.min()), float(values.max())
    q25, q75 = np.quantile(values, (0.25, 0.75))
    fence = float(q75 + 3 * (q75 - q25))
    if low < fence and high - low > 2 * (fence - low):
        high = float(values[values <= fence].max())
    return low, high


def _set_view(axes: Axes, values: Floats, keep: float | None = None) -> str:
    """Fit the y-axis to `values`, with `keep` in view; returns what to say of those cut off."""
    low, high = _view(values)
    high = high if keep is None else max(high, keep)
    pad = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - pad, high + pad)
    n_above = int((values > high + pad).sum())
    if not n_above:
        return ""
    points = "point" if n_above == 1 else "points"
    return f"{n_above:,} {points} above the view, up to {values.max():.3g}"


_HALO: Final[dict[str, Any]] = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.8}


def _at_right(axes: Axes, value: float, text: str, color: str) -> None:
    """Write `text` in the right margin at the height of `value`."""
    axes.annotate(
        text, (1, value), (4, 0), ("axes fraction", "data"), "offset points",
        va="center", fontsize=8, color=color, annotation_clip=False,
    )  # fmt: skip


def _whole_steps(axes: Axes, label: str) -> None:
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel(label)


def _say_empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY)


# --- loss curve -----------------------------------------------------------------------------------


@_styled
def loss_curve(
    train: Sequence[tuple[int, float]],
    dev: Sequence[tuple[int, float]],
    learning_rate: Sequence[tuple[int, float]],
    *,
    title: str,
) -> Figure:
    """Draw train and dev loss over the steps, with the learning rate below.

    Args:
        train: (step, nats per character) of minibatches; drawn light, and as a moving mean.
        dev: (step, nats per character) of the dev split; the last one is written out.
        learning_rate: (step, learning rate); without any, the lower panel is left out.
        title: what was trained.

    Points that are not finite are left out. Very high losses at the start are cut off, and the
    figure says how many.
    """
    train_points, dev_points, rates = _points(train), _points(dev), _points(learning_rate)
    figure = _figure(4.0)
    below = 0.82 if len(rates) else 0.0
    losses = _add_axes(figure, 0.82, 0.5 + below, 4.6, 2.82 - below)
    detail = ""
    if len(train_points):
        _draw_train(losses, train_points)
    if len(dev_points):
        marked = np.unique(np.linspace(0, len(dev_points) - 1, 25).round().astype(int))
        losses.plot(
            *dev_points.T, color=_VERMILLION, marker="o", markersize=3.5, label="dev",
            markevery=marked.tolist(),
        )  # fmt: skip
        _at_right(losses, dev_points[-1, 1], f"{dev_points[-1, 1]:.3f}", _VERMILLION)
    values = np.concatenate([train_points[:, 1], dev_points[:, 1]])
    if len(values):
        detail = _set_view(losses, values, keep=dev_points[-1, 1] if len(dev_points) else None)
        _legend_above(losses)
    else:
        _say_empty(losses, "no finite losses")
    losses.set_ylabel(f"loss, {_NATS}")
    _set_title(losses, title, detail)
    _whole_steps(losses, "step")
    if len(rates):
        losses.set_xlabel("")
        losses.tick_params(labelbottom=False)
        lower = _add_axes(figure, 0.82, 0.5, 4.6, 0.64)
        _draw_rates(lower, rates)
        _whole_steps(lower, "step")
        ends = np.concatenate([train_points, dev_points, rates])[:, 0]
        pad = 0.03 * float(np.ptp(ends)) or 1.0
        for axes in (losses, lower):
            axes.set_xlim(ends.min() - pad, ends.max() + pad)
    return figure


def _draw_train(axes: Axes, points: Floats) -> None:
    window = max(1, len(points) // 40) | 1
    if window == 1:
        axes.plot(*points.T, color=_BLUE, marker="." if len(points) == 1 else "", label="train")
        return
    # A line of 100,000 points is slow to draw and looks like one of 4,000.
    thin = slice(None, None, math.ceil(len(points) / 4000))
    raw = points[thin]
    axes.plot(*raw.T, color=_SKY, alpha=0.4, linewidth=0.7, label="train minibatches")
    total = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    index = np.arange(len(points))
    # At both ends the mean is over the part of the window that there is.
    after = np.minimum(index + window // 2 + 1, len(points))
    first = np.maximum(index - window // 2, 0)
    mean = (total[after] - total[first]) / (after - first)
    axes.plot(points[thin, 0], mean[thin], color=_BLUE, label=f"train, mean of {window} points")


def _draw_rates(axes: Axes, rates: Floats) -> None:
    axes.plot(*rates.T, color=_BLACK, linewidth=1.2, marker="." if len(rates) == 1 else "")
    low, high = float(rates[:, 1].min()), float(rates[:, 1].max())
    # A decay to (nearly) zero reads best on a linear axis; only where most of the schedule would
    # lie on the floor of one is the axis logarithmic.
    if low > 0 and np.median(rates[:, 1]) < high / 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda _y, _: ""))
    else:
        axes.set_ylim(min(0.0, 1.15 * low), 1.15 * high or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))
    axes.set_ylabel("learning\nrate")


# --- embedding ------------------------------------------------------------------------------------

_GROUPS: Final = {
    "vowel": _VERMILLION,
    "consonant": _BLUE,
    "boundary": _BLACK,
    "other letter": _GREEN,
    "other sign": _GREY,
}
_MAX_DISCS = 100
_MAX_LABELS = 150
_BOX_IN: Final = (0.66, 0.5, 5.24, 3.3)  # left, bottom, width, height of the axes


def _group(character: str) -> str:
    if character == ".":
        return "boundary"
    base = unicodedata.normalize("NFD", character)[0].lower()
    if "a" <= base <= "z":
        return "vowel" if base in "aeiou" else "consonant"
    return "other letter" if unicodedata.category(base).startswith(("L", "M")) else "other sign"


def _project(embedding: Floats) -> tuple[Floats, str, tuple[str, str]]:
    """Two coordinates a row, a note for the title, and the names of both axes."""
    n_rows, n_dims = embedding.shape
    if n_dims == 1:
        note = "one dimension; height only keeps the characters apart"
        return np.column_stack([embedding, np.zeros(n_rows)]), note, ("dimension 0", "")
    if n_dims == 2:  # noqa: PLR2004  # a plane
        return embedding, "", ("dimension 0", "dimension 1")
    _, scale, axes = np.linalg.svd(embedding - embedding.mean(axis=0), full_matrices=False)
    # A singular vector's sign is arbitrary: its largest loading is made positive.
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]
    xy = np.zeros((n_rows, 2))
    xy[:, : len(axes[:2])] = (embedding - embedding.mean(axis=0)) @ axes[:2].T
    share = np.zeros(2)
    share[: len(scale[:2])] = scale[:2] ** 2 / (np.sum(scale**2) or 1.0)
    labels = tuple(f"component {i + 1} ({100 * share[i]:.0f} %)" for i in range(2))
    return xy, f"PCA, {100 * share.sum():.0f} % of variance", (labels[0], labels[1])


def _spread(xy: Floats, radius: float, size: Floats) -> Floats:
    """Push discs apart until none overlap, or 200 rounds have passed.

    Args:
        xy: centres, float64, shape (N, 2).
        radius: of every disc, in the unit of `xy`.
        size: the discs stay within (0, 0) and this corner, shape (2,).
    """
    turn = 2.399963 * np.arange(len(xy))  # golden angle: parts equal points, each its own way
    moved = xy + 0.02 * radius * np.column_stack([np.cos(turn), np.sin(turn)])
    for _ in range(200):
        delta = moved[:, None] - moved[None]
        distance = np.hypot(delta[..., 0], delta[..., 1])
        np.fill_diagonal(distance, np.inf)
        overlap = np.clip(2 * radius - distance, 0, None)
        if overlap.max() < 0.05 * radius:
            break
        push = (0.5 * overlap / distance)[..., None] * delta
        step = np.clip(push.sum(axis=1), -radius / 2, radius / 2)  # no crowd flies apart
        moved = np.clip(moved + step, radius, size - radius)
    return moved


def _uncrowded(xy: Floats, box: tuple[float, float]) -> list[int]:
    """Choose up to 150 points, the first first, whose labels of size `box` do not touch."""
    chosen: dict[tuple[int, int], int] = {}
    cells = np.floor(xy / box).astype(int)
    for i, (column, row) in enumerate(cells.tolist()):
        around = [(column + a, row + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        near = [chosen[cell] for cell in around if cell in chosen]
        if all((np.abs(xy[i] - xy[j]) >= box).any() for j in near):
            chosen[column, row] = i
            if len(chosen) == _MAX_LABELS:
                break
    return list(chosen.values())


@_styled
def embedding_scatter(
    embedding: NDArray[np.floating[Any]], characters: Sequence[str], *, title: str
) -> Figure:
    """Draw each character at the place of its embedding.

    Args:
        embedding: one row a character, shape (V, D). Two dimensions are drawn as they are; of more,
            the first two principal components. Distances are true: both axes have one scale.
        characters: V of them, in the same order; "." is the word boundary.
        title: whose embedding this is.

    Up to 100 characters stand in discs; discs that would overlap are moved, with a line back to
    the true place. More are drawn as dots, with as many labels as fit. Rows that are not finite
    are left out.

    Raises:
        ValueError: the two disagree about V.
    """
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(characters) or not rows.shape[1]:  # noqa: PLR2004
        msg = f"embedding has shape {rows.shape}, characters are {len(characters)}"
        raise ValueError(msg)
    finite = np.flatnonzero(np.isfinite(rows).all(axis=1)).tolist()
    shown = [characters[i] for i in finite]
    figure, axes = _box()
    if not shown:
        _say_empty(axes, "no finite embeddings")
        _set_title(axes, title)
        return figure
    xy, note, (x_label, y_label) = _project(rows[finite])
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.tick_params(left=bool(y_label), labelleft=bool(y_label))
    size = np.array(_BOX_IN[2:])
    as_discs = len(shown) <= _MAX_DISCS
    # Discs shrink as they grow in number, from letters of 9 points down to 6.
    radius = float(np.clip(0.54 / math.sqrt(len(shown)), 0.068, 0.1)) if as_discs else 0.07
    scale = float((np.ptp(xy, axis=0) / (size - 3 * radius)).max()) or 1.0
    low = (xy.min(axis=0) + xy.max(axis=0) - scale * size) / 2
    high = low + scale * size
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    if as_discs:
        moved = low + scale * _spread((xy - low) / scale, radius, size)
        _draw_discs(axes, xy, moved, shown, radius)
        detail = note
    else:
        n_labels = _draw_dots(axes, xy, (xy - low) / scale, shown)
        detail = f"{note}; {n_labels} of {len(shown):,} characters labelled".removeprefix("; ")
    _legend_above(axes)
    _set_title(axes, title, detail)
    return figure


def _box() -> tuple[Figure, Axes]:
    """Make axes of a known size, so that a disc's size is known in their unit."""
    figure = _figure(4.5)
    axes = _add_axes(figure, *_BOX_IN)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(_LIGHT)
    return figure, axes


def _scatter_groups(axes: Axes, xy: Floats, shown: Sequence[str], diameter_in: float) -> None:
    groups = np.array([_group(c) for c in shown])
    for group, color in _GROUPS.items():
        if (mine := xy[groups == group]).size:
            area = (72 * diameter_in) ** 2
            axes.scatter(mine[:, 0], mine[:, 1], s=area, color=color, linewidths=0, zorder=3)
            axes.plot([], [], "o", color=color, markersize=5.5, label=group)


def _draw_discs(
    axes: Axes, xy: Floats, moved: Floats, shown: Sequence[str], radius_in: float
) -> None:
    lines = LineCollection(
        list(np.stack([xy, moved], axis=1)), colors=_GREY, linewidths=0.6, zorder=2
    )
    axes.add_collection(lines, autolim=False)
    axes.scatter(xy[:, 0], xy[:, 1], s=4, color=_GREY, linewidths=0, zorder=2)
    _scatter_groups(axes, moved, shown, 2 * radius_in)
    for character, (x, y) in zip(shown, moved, strict=True):
        label = _label(character).replace("+", "+\n")
        points = 72 * radius_in * (1.15 if len(label) == 1 else 0.62)
        axes.text(
            x, y, label, ha="center", va="center_baseline" if len(label) == 1 else "center",
            fontsize=points, linespacing=0.9, color="white", fontweight="bold", zorder=4,
        )  # fmt: skip


def _draw_dots(axes: Axes, xy: Floats, place_in: Floats, shown: Sequence[str]) -> int:
    _scatter_groups(axes, xy, shown, 0.03)
    halo = [withStroke(linewidth=1.6, foreground="white")]
    names = [_label(c) for c in shown]
    wide = max(len(name) for name in names) > 1
    labelled = _uncrowded(place_in, (0.36 if wide else 0.13, 0.13))
    for i in labelled:
        axes.annotate(
            names[i], xy[i], (0, 2), "data", "offset points",
            ha="center", va="bottom", fontsize=6.5, color=_BLACK, zorder=4, path_effects=halo,
        )  # fmt: skip
    return len(labelled)


def _label(character: str) -> str:
    return "␣" if character == " " else _shown(character)


# --- study ----------------------------------------------------------------------------------------


@_styled
def study_history(values: Sequence[tuple[int, float, str]], *, title: str) -> Figure:
    """Draw the dev loss of every trial, and the best so far.

    Args:
        values: (trial number, dev loss in nats per character, state), the state being "COMPLETE",
            "PRUNED" or "FAIL"; trials in any other state are left out. A failed trial is marked
            on the upper edge, whatever its loss.
        title: the study's name.
    """
    figure = _figure(4.0)
    axes = _add_axes(figure, 0.7, 0.5, 4.75, 2.82)
    detail = ""
    complete, pruned = (
        _points([(n, loss) for n, loss, state in values if state == wanted])
        for wanted in ("COMPLETE", "PRUNED")
    )
    failed = [n for n, _, state in values if state == "FAIL"]
    if len(pruned):
        axes.plot(*pruned.T, "x", color=_LIGHT, markersize=5, label=f"pruned ({len(pruned)})")
    if len(complete):
        label = f"complete ({len(complete)})"
        axes.plot(*complete.T, "o", color=_BLUE, markersize=4.5, markeredgewidth=0, label=label)
        best = np.minimum.accumulate(complete[:, 1])
        last = max(n for n, _, _ in values)
        steps = np.append(complete[:, 0], last), np.append(best, best[-1])
        axes.step(*steps, where="post", color=_VERMILLION, label="best so far")
        _at_right(axes, best[-1], f"{best[-1]:.3f}", _VERMILLION)
    if failed:
        axes.plot(
            failed, [0.98] * len(failed), "v", transform=axes.get_xaxis_transform(),
            color=_BLACK, markersize=5, clip_on=False, label=f"failed ({len(failed)})",
        )  # fmt: skip
    if len(losses := np.concatenate([complete, pruned])[:, 1]):
        detail = _set_view(axes, losses)
    if axes.lines:
        _legend_above(axes)
    else:
        _say_empty(axes, "no finished trials")
    axes.set_ylabel(f"dev loss, {_NATS}")
    _whole_steps(axes, "trial")
    _set_title(axes, title, detail)
    return figure


@_styled
def importances(shares: Mapping[str, float], *, title: str) -> Figure:
    """Draw how much of the score each hyperparameter explains, the largest on top.

    Args:
        shares: hyperparameter to its share, from 0 to 1; what is not finite is left out.
        title: the study's name.
    """
    kept = sorted((v, name) for name, v in shares.items() if math.isfinite(v))
    # How wide the names are is known only once they are drawn.
    figure = _figure(1.1 + 0.36 * max(3, len(kept)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([_shown(name) for _, name in kept], [v for v, _ in kept], 0.62, color=_BLUE)
    axes.bar_label(bars, [f"{v:.2f}" for v, _ in kept], padding=4, fontsize=8)
    axes.set_xlim(0, 1.12 * max((v for v, _ in kept), default=1.0) or 1.0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the total importance")
    if not kept:
        _say_empty(axes, "no importances")
        axes.tick_params(labelleft=False)
    _set_title(axes, title)
    return figure


# --- parallel coordinates -------------------------------------------------------------------------


@_styled
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

    The lower the loss, the darker the line, and the best lies on top.
    """
    # Best last, so that it is drawn on top.
    rows = sorted((r for r in rows if math.isfinite(r[1])), key=lambda r: -r[1])
    figure = _figure(4.0)
    axes = _add_axes(figure, 0.15, 0.68, 4.95, 2.72)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(left=False, labelleft=False, bottom=False, pad=3)
    if not rows:
        axes.set_xticks([])
        _say_empty(axes, "no finished trials")
        _set_title(axes, title)
        return figure
    names = list(
        dict.fromkeys(
            k for parameters, _ in rows for k, v in parameters.items() if math.isfinite(v)
        )
    )
    losses = np.array([loss for _, loss in rows])
    low, high = _view(losses)
    heights, headings = np.empty((len(rows), len(names) + 1)), []
    for column, name in enumerate(names):
        values = np.array([float(parameters.get(name, math.nan)) for parameters, _ in rows])
        values[~np.isfinite(values)] = math.nan
        log = name in log_axes and not (values <= 0).any()
        heights[:, column] = _draw_axis(axes, column, values, log=log)
        headings.append(_shown(name).replace("_", "\n") + ("\n(log)" if log else ""))
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
    axes.set(xlim=(-0.45, len(names) + 0.1), ylim=(-0.03, 1.03))
    axes.set_xticks(range(len(names) + 1), [*headings, "dev\nloss"])
    n_above = int((losses > high).sum())
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"),
        cax=figure.add_axes((5.3 / _WIDTH_IN, 0.19, 0.1 / _WIDTH_IN, 0.64)),
        extend="max" if n_above else "neither",
    )
    bar.set_label(f"dev loss, {_NATS}")
    bar.outline.set_visible(False)
    detail = f"{n_above} with a loss above {high:.3g}, drawn as {high:.3g}" if n_above else ""
    _set_title(axes, title, detail)
    return figure


def _draw_axis(axes: Axes, x: int, values: Floats, *, log: bool) -> Floats:
    """Draw the vertical axis at `x` in its own unit, and return `values` as heights in [0, 1]."""
    known = values[~np.isnan(values)]
    low, high = float(known.min()), float(known.max())

    def height(v: Floats) -> Floats:
        if low == high:
            return np.where(np.isnan(v), v, 0.5)
        a, b, c = (np.log(v), np.log(low), np.log(high)) if log else (v, low, high)
        return (a - b) / (c - b)

    axes.plot([x, x], [0, 1], color=_BLACK, linewidth=0.8, zorder=3)
    for tick in _ticks(low, high, log=log, whole=bool((known == known.round()).all())):
        y = float(height(np.array(tick)))
        axes.plot([x - 0.03, x], [y, y], color=_BLACK, linewidth=0.8, zorder=3)
        axes.annotate(
            f"{tick:g}", (x, y), (-5, 0), "data", "offset points",
            ha="right", va="center", fontsize=7.5, bbox=_HALO, zorder=4,
        )  # fmt: skip
    return height(values)


def _ticks(low: float, high: float, *, log: bool, whole: bool) -> list[float]:
    if low == high:
        return [low]
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            ticks = [f * 10.0**p for p in powers for f in factors]
            ticks = [t for t in ticks if low <= t <= high]
            if len(ticks) >= 3:  # noqa: PLR2004  # enough to read a scale from
                return ticks
        return ticks if len(ticks) > 1 else [low, high]
    locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(t) for t in locator.tick_values(low, high) if low <= t <= high]
