"""Each character stands at the point of its vector."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.style import save_figure
from tests.support.drawings import CHARACTERS, legend, make_embedding, texts, title

ORDER = ["vowel", "consonant", "boundary", "other letter", "other sign"]
"""Colour of each group in the legend."""

pytestmark = pytest.mark.filterwarnings("error")


def labels(figure: Figure) -> dict[str, tuple[float, float]]:
    """Return the labelled points."""
    return {text.get_text(): text.xy for text in figure.axes[0].texts}  # type: ignore[attr-defined]


def test_two_dimensions_are_drawn_as_they_are() -> None:
    embedding = 10 * make_embedding(2)
    figure = embedding_scatter(embedding, CHARACTERS, title="names")
    axes = figure.axes[0]
    assert list(labels(figure)) == CHARACTERS
    np.testing.assert_allclose(list(labels(figure).values()), embedding)
    box = axes.get_window_extent()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert (right - left) / box.width == pytest.approx((high - low) / box.height)


def test_more_dimensions_are_projected_on_their_principal_components() -> None:
    embedding = make_embedding(10) + 5
    eigenvalues = np.linalg.eigvalsh(np.cov(embedding.T))[::-1]
    first, second = 100 * eigenvalues[:2] / eigenvalues.sum()
    figure = embedding_scatter(embedding, CHARACTERS, title="names")
    axes = figure.axes[0]
    assert f"{first + second:.0f} %" in title(figure)
    assert f"{first:.0f} %" in axes.get_xlabel()
    assert f"{second:.0f} %" in axes.get_ylabel()
    turned = np.zeros((27, 3))
    turned[:, 1] = -np.arange(27)
    xs = [x for x, _ in labels(embedding_scatter(turned, CHARACTERS, title="t")).values()]
    np.testing.assert_allclose(xs, 13.0 - np.arange(27))  # the sign does not depend on the machine


def test_groups_of_characters_are_told_apart() -> None:
    figure = embedding_scatter(make_embedding(2, 6), list(".éçა-o"), title="t")
    sizes = [
        len(np.asarray(c.get_offsets()))
        for c in figure.axes[0].collections
        if isinstance(c, PathCollection)
    ]
    assert dict(zip(legend(figure), sizes, strict=True)) == {
        "vowel": 2, "consonant": 1, "boundary": 1, "other letter": 1, "other sign": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("vowels", "consonants", "letters"),
    [
        ("\u0131øæœäåőəɔAÉÆ", "yñßþðłçŋW", ""),
        ("αηωάΰἀΩ", "βςψξΣ", ""),
        ("аеёиоуыэюяіїєөүӑЯ", "бйўжщґЖ", "ьъ"),
        ("", "", "אबไ中ア한ა"),
    ],
)
def test_vowels_are_known_by_their_unicode_names(
    vowels: str, consonants: str, letters: str
) -> None:
    """An accent, a hook or a stroke makes no consonant of a Latin, Greek or Cyrillic vowel."""
    groups = {"vowel": vowels, "consonant": consonants, "other letter": letters}
    for group, characters in groups.items():
        for character in characters:
            figure = embedding_scatter(make_embedding(2, 2), [".", character], title="t")
            assert legend(figure) == sorted([group, "boundary"], key=ORDER.index), character


@pytest.mark.parametrize(("n_dims", "n_rows"), [(1, 1), (1, 2), (1, 27), (2, 1), (3, 1), (3, 2)])
def test_small_embeddings_are_drawn(n_dims: int, n_rows: int, tmp_path: Path) -> None:
    figure = embedding_scatter(make_embedding(n_dims, n_rows), CHARACTERS[:n_rows], title="t")
    save_figure(figure, tmp_path / "e.png")
    assert list(labels(figure)) == CHARACTERS[:n_rows]


def test_characters_without_a_glyph_show_their_code_point(tmp_path: Path) -> None:
    characters = [".", "\U00030001", " ", "\n", "$", "x"]
    figure = embedding_scatter(make_embedding(3, 6), characters, title="\U00030002 $n$ames")
    save_figure(figure, tmp_path / "e.png")
    assert list(labels(figure)) == [".", "U+30001", "␣", "U+000A", "$", "x"]
    assert title(figure).startswith("U+30002 $n$ames")


def test_labels_of_code_points_stay_apart_and_inside() -> None:
    """At the letters' size they covered each other and left the axes."""
    characters = [".", *map(chr, range(0xE000, 0xE018))]
    points = [(x, y) for y in range(5) for x in range(5)]
    figure = embedding_scatter(np.array(points, dtype=float) * (1, 0.5), characters, title="t")
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = axes.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and b.y1 <= frame.y1 for b in boxes)


def test_large_vocabularies_label_what_fits(tmp_path: Path) -> None:
    characters = [chr(0x4E00 + i) for i in range(5000)]
    figure = embedding_scatter(make_embedding(24, 5000), characters, title="t")
    save_figure(figure, tmp_path / "e.png")
    n_labels = len(labels(figure))
    assert 20 < n_labels <= 150
    assert f"{n_labels} of 5,000" in title(figure)


def test_rows_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    embedding = make_embedding(3)
    embedding[4] = math.nan
    figure = embedding_scatter(embedding, CHARACTERS, title="t")
    assert list(labels(figure)) == CHARACTERS[:4] + CHARACTERS[5:]
    empty = embedding_scatter(np.full((27, 3), math.inf), CHARACTERS, title="t")
    save_figure(empty, tmp_path / "e.png")
    assert "no finite embeddings" in texts(empty)
