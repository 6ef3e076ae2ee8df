"""The figure of an embedding: each character at the point of its vector."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from mmsearch.tracking.figures import fonts, style

__all__ = ["embedding_scatter"]

_GROUPS: Final = {
    "vowel": style.VERMILLION,
    "consonant": style.BLUE,
    "boundary": style.BLACK,
    "other letter": style.GREEN,
    "other sign": style.GREY,
}
_VOWELS: Final = {
    "LATIN": {
        "A", "E", "I", "O", "U", "AA", "AE", "AO", "AU", "OE", "OO", "OU", "IJ",
        "ALPHA", "EPSILON", "IOTA", "OMEGA", "SCHWA", "UPSILON",
    },
    "GREEK": {"ALPHA", "EPSILON", "ETA", "IOTA", "OMEGA", "OMICRON", "UPSILON"},
    "CYRILLIC": {
        "A", "E", "I", "IE", "IO", "O", "U", "YA", "YERU", "YI", "YU",
        "IZHITSA", "OMEGA", "SCHWA", "UK", "YAT", "YUS",
    },
}  # fmt: skip
"""Words in the Unicode names of vowels."""
_ALL_LABELLED = 100
"""Characters up to which each has a label, even one that touches another."""
_MAX_LABELS = 150
_PLACES: Final = np.array(
    [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)], dtype=np.float64
)
"""Where a label may be beside its point, the first choice first."""
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
    advice = fonts.advice(shown)
    has_note = rows.shape[1] > 2 or len(shown) > _ALL_LABELLED  # noqa: PLR2004  # see _project
    figure = style.figure(4.66 if advice and has_note else 4.5)
    axes = style.add_axes(figure, *_BOX_IN)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.LIGHT)
    if not shown:
        style.note_empty(axes, "no finite embeddings")
        style.set_title(axes, title)
        return figure
    xy, note, (x_label, y_label) = _project(rows[finite])
    axes.set(xlabel=x_label, ylabel=y_label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "\u2212")))
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
    names = [fonts.label(c) for c in shown]
    boxes = np.array([_box(name) for name, _ in names])
    labels = _labels((xy - low) / scale, boxes, size, is_all=is_small)
    halo = [withStroke(linewidth=1.6, foreground="white")]
    for i, (right, up) in labels.items():
        name, families = names[i]
        font_size = 10.0 if is_small else 6.5
        axes.annotate(
            name, xy[i], (72 * right, 72 * up), "data", "offset points", ha="center", va="center",
            fontfamily=families, fontsize=min(font_size, 5.5) if _is_code(name) else font_size,
            color=_GROUPS[groups[i]] if is_small else style.BLACK, zorder=4, path_effects=halo,
        )  # fmt: skip
    if not is_small:
        note = f"{note}; {len(labels)} of {len(shown):,} characters labelled".removeprefix("; ")
    style.legend_above(axes)
    style.set_title(axes, title, f"{note}\n{advice}".strip())
    return figure


def _group(character: str) -> str:
    """Return the group of a character; vowels are known of Latin, Greek and Cyrillic."""
    category = unicodedata.category(character)
    if not category.startswith(("L", "M")):
        return "other sign"
    # Such as LATIN SMALL LETTER O WITH STROKE.
    script, *words = unicodedata.name(character, "").partition(" WITH ")[0].split() or [""]
    if script not in _VOWELS or category not in {"Lu", "Ll", "Lt", "Lo"} or "SIGN" in words:
        return "other letter"
    is_vowel = not _VOWELS[script].isdisjoint(words) and "SHORT" not in words
    # Of the phonetic alphabet, named after the letters that they look like.
    return "vowel" if is_vowel or character in "ʌɯɤ" else "consonant"


def _is_code(name: str) -> bool:
    """Return whether a label is a code point."""
    return name.startswith("U+")


def _box(name: str) -> tuple[float, float]:
    """Return about the width and height of a label, in inches."""
    if _is_code(name):
        return 0.055 * len(name), 0.1
    if len(name) > 1:
        return 0.2, 0.14  # a mark, which may be beside its circle
    return 0.14 if unicodedata.east_asian_width(name) in {"W", "F"} else 0.12, 0.14


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
    xy: style.Floats, boxes: style.Floats, size: style.Floats, *, is_all: bool
) -> dict[int, tuple[float, float]]:
    """Place labels around their points, so that they overlap as few others as possible.

    Args:
        xy: the points, in inches, shape (N, 2).
        boxes: width and height of the labels, in inches, shape (N, 2).
        size: width and height of the axes, in inches.
        is_all: whether a label without a free place is drawn, too; then labels keep off the other
            points where they can.

    Returns:
        The offset of each label by the index of its point; at most 150 unless `is_all`.
    """
    placed: dict[int, tuple[float, float]] = {}
    centres, taken = np.empty((2, 0, 2))
    for i, (point, box) in enumerate(zip(xy, boxes, strict=True)):
        offsets = _PLACES * (0.03 + box[0] / 2, 0.09)
        places = point + offsets
        cost = 1000.0 * _hits(places, centres, (taken + box) / 2)
        if is_all:
            cost += _hits(places, xy, box / 2)
        cost[((places < box / 2) | (places > size - box / 2)).any(axis=1)] = np.inf
        best = int(cost.argmin())
        if not is_all and cost[best]:
            continue
        right, up = offsets[best].tolist()
        placed[i] = (right, up)
        centres, taken = np.vstack([centres, places[best]]), np.vstack([taken, box])
        if len(placed) == _MAX_LABELS and not is_all:
            break
    return placed


def _hits(places: style.Floats, others: style.Floats, reach: style.Floats) -> NDArray[np.int64]:
    """Return how many of the others are within reach of each place."""
    hits: NDArray[np.int64] = (np.abs(places[:, None] - others) < reach).all(axis=2).sum(axis=1)
    return hits
