"""The figure of an embedding: each character at its place.

It takes plain numbers and returns a `matplotlib.figure.Figure`; `style.save_png` writes it.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from mmsearch.tracking.figures import style

__all__ = ["embedding_scatter"]

_GROUPS: Final = {
    "vowel": style.VERMILLION,
    "consonant": style.BLUE,
    "boundary": style.BLACK,
    "other letter": style.GREEN,
    "other sign": style.GREY,
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


def _project(embedding: style.Floats) -> tuple[style.Floats, str, tuple[str, str]]:
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


def _spread(xy: style.Floats, radius: float, size: style.Floats) -> style.Floats:
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


def _uncrowded(xy: style.Floats, box: tuple[float, float]) -> list[int]:
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


@style.styled
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
        style.say_empty(axes, "no finite embeddings")
        style.set_title(axes, title)
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
    style.legend_above(axes)
    style.set_title(axes, title, detail)
    return figure


def _box() -> tuple[Figure, Axes]:
    """Make axes of a known size, so that a disc's size is known in their unit."""
    figure = style.figure(4.5)
    axes = style.add_axes(figure, *_BOX_IN)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.LIGHT)
    return figure, axes


def _scatter_groups(axes: Axes, xy: style.Floats, shown: Sequence[str], diameter_in: float) -> None:
    groups = np.array([_group(c) for c in shown])
    for group, color in _GROUPS.items():
        if (mine := xy[groups == group]).size:
            area = (72 * diameter_in) ** 2
            axes.scatter(mine[:, 0], mine[:, 1], s=area, color=color, linewidths=0, zorder=3)
            axes.plot([], [], "o", color=color, markersize=5.5, label=group)


def _draw_discs(
    axes: Axes, xy: style.Floats, moved: style.Floats, shown: Sequence[str], radius_in: float
) -> None:
    lines = LineCollection(
        list(np.stack([xy, moved], axis=1)), colors=style.GREY, linewidths=0.6, zorder=2
    )
    axes.add_collection(lines, autolim=False)
    axes.scatter(xy[:, 0], xy[:, 1], s=4, color=style.GREY, linewidths=0, zorder=2)
    _scatter_groups(axes, moved, shown, 2 * radius_in)
    for character, (x, y) in zip(shown, moved, strict=True):
        label = _label(character).replace("+", "+\n")
        points = 72 * radius_in * (1.15 if len(label) == 1 else 0.62)
        axes.text(
            x, y, label, ha="center", va="center_baseline" if len(label) == 1 else "center",
            fontsize=points, linespacing=0.9, color="white", fontweight="bold", zorder=4,
        )  # fmt: skip


def _draw_dots(axes: Axes, xy: style.Floats, place_in: style.Floats, shown: Sequence[str]) -> int:
    _scatter_groups(axes, xy, shown, 0.03)
    halo = [withStroke(linewidth=1.6, foreground="white")]
    names = [_label(c) for c in shown]
    wide = max(len(name) for name in names) > 1
    labelled = _uncrowded(place_in, (0.36 if wide else 0.13, 0.13))
    for i in labelled:
        axes.annotate(
            names[i], xy[i], (0, 2), "data", "offset points",
            ha="center", va="bottom", fontsize=6.5, color=style.BLACK, zorder=4, path_effects=halo,
        )  # fmt: skip
    return len(labelled)


def _label(character: str) -> str:
    return "␣" if character == " " else style.shown(character)
