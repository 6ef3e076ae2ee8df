"""The figure of an embedding: each character at the point of its vector."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
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
_ALL_LABELLED = 100
"""Characters up to which each has a label, even one that touches another."""
_MAX_LABELS = 150
_OFFSETS_IN: Final = ((0.0, 0.09), (0.0, -0.09), (0.09, 0.0), (-0.09, 0.0))
"""Places of a label's centre beside its point, the first choice first."""
_BOX_IN: Final = (0.66, 0.5, 5.24, 3.3)
"""Left, bottom, width and height of the axes, in inches."""


@style.styled
def embedding_scatter(
    embedding: NDArray[np.floating[Any]], characters: Sequence[str], *, title: str
) -> Figure:
    """Draw each character at the point of its vector, as in the article.

    Both axes have the same scale, so that distances are true. Of more than 100 characters only
    those are labelled that have room. Rows that are not finite are left out.

    Args:
        embedding: one row per character, shape (V, D). Two dimensions are drawn as they are; of
            more, the first two principal components.
        characters: V characters in the same order; the first is the word boundary.
        title: the trial.
    """
    rows = np.asarray(embedding, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(rows).all(axis=1)).tolist()
    shown = [characters[i] for i in finite]
    figure = style.figure(4.5)
    axes = style.add_axes(figure, *_BOX_IN)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.LIGHT)
    if not shown:
        style.note_empty(axes, "no finite embeddings")
        style.set_title(axes, title)
        return figure
    xy, note, (x_label, y_label) = _project(rows[finite])
    axes.set(xlabel=x_label, ylabel=y_label)
    size = np.array(_BOX_IN[2:])
    scale = float((np.ptp(xy, axis=0) / (size - 0.4)).max()) or 1.0
    low = (xy.min(axis=0) + xy.max(axis=0) - scale * size) / 2
    axes.set(xlim=(low[0], low[0] + scale * size[0]), ylim=(low[1], low[1] + scale * size[1]))
    groups = np.array([_group(characters[i]) if i else "boundary" for i in finite])
    is_small = len(shown) <= _ALL_LABELLED
    for group, color in _GROUPS.items():
        if (members := xy[groups == group]).size:
            axes.scatter(
                members[:, 0],
                members[:, 1],
                s=6 if is_small else 3,
                color=color,
                linewidths=0,
                zorder=3,
            )
            axes.plot([], [], "o", color=color, markersize=5.5, label=group)
    names = ["␣" if c == " " else style.drawable(c) for c in shown]
    box = (0.36 if max(map(len, names)) > 1 else 0.12, 0.14)
    labels = _labels((xy - low) / scale, box, is_all=is_small)
    halo = [withStroke(linewidth=1.6, foreground="white")]
    for i, (right, up) in labels.items():
        axes.annotate(
            names[i], xy[i], (72 * right, 72 * up), "data", "offset points",
            ha="center", va="center", fontsize=10 if is_small else 6.5,
            color=_GROUPS[groups[i]] if is_small else style.BLACK, zorder=4, path_effects=halo,
        )  # fmt: skip
    if not is_small:
        note = f"{note}; {len(labels)} of {len(shown):,} characters labelled".removeprefix("; ")
    style.legend_above(axes)
    style.set_title(axes, title, note)
    return figure


def _group(character: str) -> str:
    base = unicodedata.normalize("NFD", character)[0].lower()
    if "a" <= base <= "z":
        return "vowel" if base in "aeiou" else "consonant"
    return "other letter" if unicodedata.category(base).startswith(("L", "M")) else "other sign"


def _project(embedding: style.Floats) -> tuple[style.Floats, str, tuple[str, str]]:
    """Return two coordinates per row, a note for the title, and the labels of both axes."""
    n_rows, n_dims = embedding.shape
    if n_dims <= 2:  # noqa: PLR2004  # a line or a plane
        xy = np.column_stack([embedding, np.zeros((n_rows, 2 - n_dims))])
        return xy, "", ("dimension 0", "dimension 1" if n_dims > 1 else "")
    centred = embedding - embedding.mean(axis=0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    # A singular vector's sign is arbitrary: its largest loading is made positive.
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]
    xy, share = np.zeros((n_rows, 2)), np.zeros(2)
    xy[:, : len(axes[:2])] = centred @ axes[:2].T
    share[: len(scale[:2])] = scale[:2] ** 2 / (np.sum(scale**2) or 1.0)
    first, second = (f"component {i + 1} ({100 * share[i]:.0f} %)" for i in range(2))
    return xy, f"PCA, {100 * share.sum():.0f} % of variance", (first, second)


def _labels(
    xy: style.Floats, box: tuple[float, float], *, is_all: bool
) -> dict[int, tuple[float, float]]:
    """Place labels above, below or beside their points, so that they do not overlap.

    Args:
        xy: the points, in inches, shape (N, 2).
        box: width and height of a label.
        is_all: whether a label without a free place is drawn above its point, or left out.

    Returns:
        The offset of each label by the index of its point; at most 150 unless `is_all`.
    """
    placed: dict[int, tuple[float, float]] = {}
    centres = np.empty((0, 2))
    for i, point in enumerate(xy):
        free = (o for o in _OFFSETS_IN if (np.abs(centres - point - o) >= box).any(axis=1).all())
        offset = next(free, _OFFSETS_IN[0] if is_all else None)
        if offset is not None:
            placed[i] = offset
            centres = np.vstack([centres, point + offset])
        if len(placed) == _MAX_LABELS and not is_all:
            break
    return placed
