"""The figure of a confirmation: what was promised, and what fresh seeds came to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmsearch.tracking.figures.confirmation import fresh_seeds
from mmsearch.tracking.figures.style import save_png
from tests.support.drawings import legend, texts, title

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes


def drawn(axes: Axes, marker: str, row: int) -> list[float]:
    """Give the losses that are drawn with a marker in a row."""
    return [
        float(x)
        for line in axes.lines
        if line.get_marker() == marker
        for x, y in zip(
            np.atleast_1d(line.get_xdata()), np.atleast_1d(line.get_ydata()), strict=True
        )
        if y == row
    ]


def test_each_candidate_has_its_row() -> None:
    """Seeds as dots, their mean written out, a bar of one sd to both sides, the search's score."""
    rows = [(7, 2.0, [2.01, 2.03]), (3, 2.02, [2.04, 2.06, math.nan])]
    figure = fresh_seeds(rows, title="names")
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["trial 7", "trial 3"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best on top"
    assert axes.get_xlabel() == "dev loss, nats per character"
    for row, (_, promised, losses) in enumerate(rows):
        assert drawn(axes, "o", row) == [loss for loss in losses if loss == loss]  # noqa: PLR0124
        assert drawn(axes, "D", row) == [promised]
    bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() > 5]
    sd = 0.02 / math.sqrt(2)
    np.testing.assert_allclose(np.array(bars), [[2.02 - sd, 2.02 + sd], [2.05 - sd, 2.05 + sd]])
    assert {"2.0200", "2.0500"} <= set(texts(figure))
    assert legend(figure) == ["search", "fresh seeds", "their mean, ± 1 sd"]


def test_many_candidates_are_cut_to_what_can_be_read() -> None:
    """The title says how many are left out."""
    figure = fresh_seeds([(n, 2.0, [2.0, 2.1]) for n in range(24)], title="t")
    assert len(figure.axes[0].get_yticks()) == 20
    assert title(figure) == "t\nthe first 20 of 24"


@pytest.mark.parametrize("losses", [[], [2.1], [math.inf, math.nan]])
def test_candidate_with_next_to_no_seeds_is_drawn(losses: Sequence[float], tmp_path: Path) -> None:
    """Confirmed half, with one seed, or diverged: it draws what is there."""
    figure = fresh_seeds([(0, math.nan, losses), (1, 2.0, losses)], title="t")
    save_png(figure, tmp_path / "s.png")
    assert drawn(figure.axes[0], "o", 1) == [loss for loss in losses if math.isfinite(loss)]
