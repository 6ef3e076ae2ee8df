"""Each character stands at the place of its embedding, and can be read."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.style import save_png
from tests.support.drawings import CHARACTERS, legend, make_embedding, texts, title

pytestmark = pytest.mark.filterwarnings("error")


def test_embedding_of_two_dimensions_is_drawn_as_it_is() -> None:
    """As in the article: the axes are the dimensions, and each character stands at its row."""
    embedding = 10 * make_embedding(2)
    figure = embedding_scatter(embedding, CHARACTERS, title="names")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dimension 0", "dimension 1")
    assert title(figure) == "names"
    places = next(c for c in axes.collections if isinstance(c, PathCollection)).get_offsets()
    np.testing.assert_allclose(np.asarray(places), embedding)
    assert [t.get_text() for t in axes.texts] == CHARACTERS


def test_embedding_axes_have_one_scale() -> None:
    """Near in the picture means near in the embedding, whichever way."""
    axes = embedding_scatter(make_embedding(2), CHARACTERS, title="t").axes[0]
    box = axes.get_window_extent()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert (right - left) / box.width == pytest.approx((high - low) / box.height)


def test_share_of_variance_is_that_of_the_covariance() -> None:
    """The PCA agrees with the eigenvalues of the covariance matrix, an independent way to it."""
    embedding = make_embedding(10) + 5
    eigenvalues = np.linalg.eigvalsh(np.cov(embedding.T))[::-1]
    first, second = 100 * eigenvalues[:2] / eigenvalues.sum()
    figure = embedding_scatter(embedding, CHARACTERS, title="names")
    axes = figure.axes[0]
    assert title(figure) == f"names\nPCA, {first + second:.0f} % of variance"
    assert axes.get_xlabel() == f"component 1 ({first:.0f} %)"
    assert axes.get_ylabel() == f"component 2 ({second:.0f} %)"


def test_component_signs_are_fixed() -> None:
    """The largest loading is positive: no mirror images between runs or machines."""
    embedding = np.zeros((27, 3))
    embedding[:, 1] = -np.arange(27)
    figure = embedding_scatter(embedding, CHARACTERS, title="t")
    places = next(
        c for c in figure.axes[0].collections if isinstance(c, PathCollection)
    ).get_offsets()
    np.testing.assert_allclose(np.asarray(places)[:, 0], 13.0 - np.arange(27))


def test_groups_of_characters_are_told_apart() -> None:
    """Accents make no consonant of a vowel; other scripts and signs are not sorted at all."""
    figure = embedding_scatter(make_embedding(2, 6), list(".éçж-o"), title="t")
    assert legend(figure) == ["vowel", "consonant", "boundary", "other letter", "other sign"]
    sizes = [
        len(np.asarray(c.get_offsets()))
        for c in figure.axes[0].collections
        if isinstance(c, PathCollection)
    ]
    assert sizes[1:] == [2, 1, 1, 1, 1]  # the first are the true places


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0])
def test_discs_do_not_overlap(spread: float) -> None:
    """27 characters can be read even where all embeddings are the same."""
    figure = embedding_scatter(spread * make_embedding(10), CHARACTERS, title="t")
    figure.canvas.draw()
    axes = figure.axes[0]
    centres = axes.transData.transform([t.get_position() for t in axes.texts])
    distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    radius_px = 0.1 * 150
    assert distance.min() > 1.8 * radius_px
    box = axes.get_window_extent()
    assert (centres >= [box.x0, box.y0]).all()
    assert (centres <= [box.x1, box.y1]).all()


@pytest.mark.parametrize("n_dims", [1, 2, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 27])
def test_small_embeddings_are_drawn(n_dims: int, n_rows: int, tmp_path: Path) -> None:
    """One dimension and one character are odd, and no reason to fail."""
    rows = make_embedding(n_dims, n_rows)
    figure = embedding_scatter(rows, CHARACTERS[:n_rows], title="t")
    save_png(figure, tmp_path / "e.png")
    assert len(figure.axes[0].texts) == n_rows


def test_characters_without_a_glyph_show_their_code_point(tmp_path: Path) -> None:
    """What the font lacks is neither an empty box nor a warning; "$" starts no formula."""
    characters = [".", "中", " ", "\n", "$", "x"]
    figure = embedding_scatter(make_embedding(3, 6), characters, title="文 $n$ames")
    save_png(figure, tmp_path / "e.png")
    shown = [t.get_text() for t in figure.axes[0].texts]
    assert shown == [".", "U+\n4E2D", "␣", "U+\n000A", "$", "x"]
    assert title(figure).startswith("U+6587 $n$ames")


def test_large_vocabularies_label_what_fits(tmp_path: Path) -> None:
    """Of 5,000 characters as many are labelled as can be read, and the title says how many."""
    characters = [chr(0x4E00 + i) for i in range(5000)]
    figure = embedding_scatter(make_embedding(24, 5000), characters, title="t")
    save_png(figure, tmp_path / "e.png")
    n_labels = len(figure.axes[0].texts)
    assert 20 < n_labels <= 150  # neither none nor a black cloud
    assert title(figure).endswith(f"{n_labels} of 5,000 characters labelled")


def test_rows_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged model still has its picture, even an empty one."""
    embedding = make_embedding(3)
    embedding[4] = math.nan
    figure = embedding_scatter(embedding, CHARACTERS, title="t")
    assert [t.get_text() for t in figure.axes[0].texts] == CHARACTERS[:4] + CHARACTERS[5:]
    empty = embedding_scatter(np.full((27, 3), math.inf), CHARACTERS, title="t")
    save_png(empty, tmp_path / "e.png")
    assert "no finite embeddings" in texts(empty)


def test_embedding_of_other_characters_is_refused() -> None:
    """Rows that belong to other characters would make a wrong picture."""
    with pytest.raises(ValueError, match=r"shape \(27, 2\), characters are 26"):
        embedding_scatter(make_embedding(2), CHARACTERS[1:], title="t")
