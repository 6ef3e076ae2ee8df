"""The figures of a study show each trial, and survive bad numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mmsearch.tracking.figures.confirmation import confirmation
from mmsearch.tracking.figures.study import (
    importances,
    parallel_coordinates,
    study_history,
    trade_off,
)
from mmsearch.tracking.figures.style import save_figure
from tests.support.drawings import WHOLE, legend, make_rows, texts, title

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = math.nan, math.inf


def test_history_shows_every_trial_and_the_best_so_far() -> None:
    values = [
        (0, 2.5, "COMPLETE"), (1, 2.0, "PRUNED"), (2, 2.3, "COMPLETE"), (3, NAN, "FAIL"),
        (4, 2.4, "COMPLETE"), (5, 2.6, "PRUNED"), (6, 0.0, "RUNNING"),
    ]  # fmt: skip
    figure = study_history(values, title="names")
    axes = figure.axes[0]
    assert legend(figure) == [
        "pruned, fewer steps (2)",
        "complete (3)",
        "best complete",
        "failed (1)",
    ]
    best = next(line for line in axes.lines if line.get_label() == "best complete")
    assert np.asarray(best.get_ydata()).tolist() == [2.5, 2.3, 2.3, 2.3]
    assert "2.300" in texts(figure)
    assert axes.get_ylim()[0] > 1.9  # the running trial's 0.0 is not in it


def test_neither_diverged_trials_nor_far_baselines_flatten_the_history() -> None:
    values = [(n, 2.0 + 0.01 * n, "COMPLETE") for n in range(30)]
    figure = study_history([*values, (30, 1e9, "COMPLETE"), (31, INF, "PRUNED")], title="t")
    low, high = figure.axes[0].get_ylim()
    assert high < 3
    assert "1e+09" in title(figure)
    baselines = {"inside": 2.1, "below": low - 0.03, "above": 3.3}
    figure = study_history(values, title="t", baselines=baselines)
    assert {"inside", "below"} < set(texts(figure))
    assert "above" not in texts(figure)
    assert figure.axes[0].get_ylim()[0] < low - 0.03


@pytest.mark.parametrize("shares", [{"a": 0.0}, {"block_size": 0.25, "learning_rate": 0.7}])
def test_importances_are_sorted_and_written_out(shares: dict[str, float], tmp_path: Path) -> None:
    figure = importances(shares, title="names")
    save_figure(figure, tmp_path / "i.png")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(shares)
    assert [t.get_text() for t in axes.texts] == [f"{share:.2f}" for share in shares.values()]


def test_pareto_front_is_what_no_trial_beats_in_both() -> None:
    points = [
        (0, 1000, 2.5), (1, 2000, 2.6), (2, 3000, 2.2), (3, 3000, 2.3), (4, 9000, 2.2),
        (6, 20_000, 2.1),
    ]  # fmt: skip
    figure = trade_off(points, title="names")
    front = next(line for line in figure.axes[0].lines if line.get_label() == "Pareto front")
    assert np.asarray(front.get_xydata()).tolist() == [[1000, 2.5], [3000, 2.2], [20_000, 2.1]]
    assert [t.get_text() for t in figure.axes[0].texts] == ["6", "2", "0"]


def test_numbers_on_a_crowded_front_do_not_overlap() -> None:
    points = [(n, 10_000 + n, 2.0 - 0.001 * n) for n in range(100)]
    figure = trade_off(points, title="t")
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers[0] == "99"
    assert 1 < len(numbers) < 60


def test_parallel_coordinates_keep_their_units() -> None:
    rows: list[tuple[dict[str, float], float]] = [
        ({"block_size": 2, "learning_rate": 0.001}, 2.2),
        ({"block_size": 8, "learning_rate": 0.1}, 2.0),
        ({"block_size": 5, "learning_rate": 0.01}, 2.1),
    ]
    figure = parallel_coordinates(rows, log_axes=frozenset({"learning_rate"}), title="names")
    axes, _ = figure.axes
    headings = [t.get_text() for t in axes.get_xticklabels()]
    assert headings == ["block\nsize", "learning\nrate\n(log)", "dev\nloss"]
    assert {"2", "8", "0.001", "0.01", "0.1", "2.1"} <= {t.get_text() for t in axes.texts}
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    heights = [np.asarray(segment)[:, 1].tolist() for segment in lines.get_segments()]
    expected = np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 0.5], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(np.array(heights), expected, atol=1e-9)
    assert np.asarray(lines.get_array()).tolist() == [2.2, 2.1, 2.0]
    darkest, lightest = (sum(lines.cmap(height)[:3]) for height in (0.0, 1.0))
    assert darkest < lightest


def test_ticks_of_narrow_axes_are_round_and_differ() -> None:
    rows = [({"learning_rate": rate}, 2.1) for rate in (0.12795, 0.287957)]
    parallel = parallel_coordinates(rows, log_axes=frozenset({"learning_rate"}), title="t")
    assert [t.get_text() for t in parallel.axes[0].texts][:3] == ["0.15", "0.2", "0.25"]
    rows = [({"learning_rate": 0.1 + 1e-8 * n}, 2.1) for n in range(9)]
    parallel = parallel_coordinates(rows, log_axes=frozenset(), title="t")
    ticks = [t.get_text() for t in parallel.axes[0].texts if t.get_text().startswith("0.1")]
    assert len(ticks) == len(set(ticks)) > 1


def test_diverged_trials_do_not_flatten_parallel_coordinates() -> None:
    figure = parallel_coordinates([*make_rows(30), (WHOLE, 1e9)], log_axes=frozenset(), title="t")
    assert figure.axes[1].get_ylim()[1] < 3
    assert "1 with a loss above" in title(figure)


@pytest.mark.parametrize(
    "rows",
    [
        [({"learning_rate": 0.0}, 2.1), ({"learning_rate": 0.1}, 2.2)],
        [({"learning_rate": 0.21}, 2.1), ({"learning_rate": 0.22}, 2.1)],
    ],
)
def test_parallel_coordinates_of_next_to_nothing(
    rows: list[tuple[dict[str, float], float]], tmp_path: Path
) -> None:
    log = frozenset({"learning_rate", "weight_decay"})
    save_figure(parallel_coordinates(rows, log_axes=log, title="t"), tmp_path / "p.png")


@pytest.mark.parametrize("losses", [[], [2.1], [2.04, 2.06, NAN], [INF, NAN]])
def test_confirmation_shows_the_search_and_the_fresh_seeds(
    losses: list[float], tmp_path: Path
) -> None:
    rows = [(7, 2.0, [2.01, 2.03]), (3, 2.02, losses)] + [(n, NAN, [2.2, 2.3]) for n in range(22)]
    figure = confirmation(rows, title="names")
    save_figure(figure, tmp_path / "s.png")
    axes = figure.axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert (labels[:2], len(labels)) == (["trial 7", "trial 3"], 20)
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best on top"
    finite = [loss for loss in losses if math.isfinite(loss)]
    drawn = {
        marker: [
            float(x)
            for line in axes.lines
            if line.get_marker() == marker
            for x, y in np.atleast_2d(line.get_xydata()).tolist()
            if y == 1
        ]
        for marker in "Do"
    }
    assert drawn == {"D": [2.02], "o": finite}
    assert not finite or f"{sum(finite) / len(finite):.4f}" in texts(figure)


ONE_SEED = [(7, 2.0, [2.01]), (3, 2.02, [2.04])]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: study_history([(0, 2.1, "COMPLETE"), (1, NAN, "FAIL")], title="t"),
        lambda: study_history([(4, 2.1, "PRUNED")], title="t"),
        lambda: importances({"learning_rate": 0.98}, title="t"),
        lambda: trade_off([(0, 11_897, 2.1)], title="t"),
        lambda: trade_off([(n, 11_897, 2.1 + n) for n in range(9)], title="t"),
        lambda: parallel_coordinates([(WHOLE, 2.1)], log_axes=frozenset(), title="t"),
        lambda: parallel_coordinates([({}, 2.1), ({}, 2.2)], log_axes=frozenset(), title="t"),
        lambda: confirmation([(7, 2.0, [2.01, 2.03])], title="t"),
    ],
)
def test_figure_with_nothing_to_compare_says_so(draw: Callable[[], Figure], tmp_path: Path) -> None:
    """One point looks like a finding, a front or a best among equals."""
    figure = draw()
    save_figure(figure, tmp_path / "f.png")
    assert "nothing to compare" in "".join(texts(figure))
    assert not {"Pareto front", "best complete"} & set(legend(figure))


def test_figure_with_something_to_compare_does_not_say_so() -> None:
    for figure in (
        study_history([(0, 2.1, "COMPLETE"), (1, 2.2, "PRUNED")], title="t"),
        importances({"learning_rate": 0.9, "block_size": 0.0}, title="t"),
        trade_off([(0, 100, 2.1), (1, 101, 2.1)], title="t"),
        parallel_coordinates([(WHOLE, 2.1), (WHOLE, 2.1)], log_axes=frozenset(), title="t"),
        confirmation(ONE_SEED, title="t"),
    ):
        assert "nothing to compare" not in "".join(texts(figure))


def test_study_of_failed_trials_has_no_made_up_losses(tmp_path: Path) -> None:
    save_figure(study_history([], title="t"), tmp_path / "none.png")
    figure = study_history([(0, NAN, "FAIL"), (1, NAN, "FAIL")], title="t")
    assert legend(figure) == ["failed (2)"]
    assert not [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_losses_that_hardly_differ_are_drawn_as_equal() -> None:
    """A ten millionth of a nat, spread over the whole height, looks like a result."""
    losses = [2.1 + 1e-7 * n for n in range(9)]
    history = study_history([(n, loss, "COMPLETE") for n, loss in enumerate(losses)], title="t")
    trade = trade_off([(n, 100 * (n + 1), loss) for n, loss in enumerate(losses)], title="t")
    fresh = confirmation([(n, loss, losses) for n, loss in enumerate(losses)], title="t")
    views = [history.axes[0].get_ylim(), trade.axes[0].get_ylim(), fresh.axes[0].get_xlim()]
    rows = [({"block_size": n}, loss) for n, loss in enumerate(losses)]
    parallel = parallel_coordinates(rows, log_axes=frozenset(), title="t")
    views.append(parallel.axes[1].get_ylim())
    for low, high in views:
        assert low < 2.099
        assert high > 2.101


def test_importance_of_next_to_nothing_is_no_long_bar() -> None:
    """The longest bar filled the figure whatever its share."""
    figure = importances({"learning_rate": 1e-9, "block_size": 0.0}, title="t")
    assert figure.axes[0].get_xlim()[1] >= 0.1
    nothing = importances({"learning_rate": 0.0, "block_size": 0.0}, title="t")
    assert title(nothing) != "t"


def test_diverged_seed_does_not_flatten_a_confirmation() -> None:
    rows: list[tuple[int, float, list[float]]] = [
        (7, 2.0, [2.01, 2.02, 2.03, 2.02]), (3, 2.02, [2.05, 2.06, 2.04, 9000.0]),
    ]  # fmt: skip
    figure = confirmation(rows, title="t")
    low, high = figure.axes[0].get_xlim()
    assert 1.9 < low < 2.0
    assert 2.06 < high < 3
    assert "9e+03" in title(figure)


def test_confirmation_tells_what_its_means_are_from() -> None:
    """A mean of two seeds beside means of five is not the same thing."""
    rows = [(7, 2.0, [2.01, 2.03, 2.02]), (3, 2.02, [2.0, NAN])]
    assert "trial 3 has fewer than 3 seeds" in title(confirmation(rows, title="t"))
    assert "one fresh seed" in title(confirmation(ONE_SEED, title="t"))


def test_labels_of_near_baselines_do_not_overlap() -> None:
    values = [(n, 2.0 + 0.03 * n, "COMPLETE") for n in range(20)]
    near = {"uniform": 2.31, "bigram": 2.30, "n-gram": 2.305, "far": 2.1}
    figure = study_history(values, title="t", baselines=near)
    figure.canvas.draw()
    labels = [t for t in figure.axes[0].texts if t.get_text() != "2.000"]
    assert {name for t in labels for name in t.get_text().split(", ")} == set(near)
    boxes = [t.get_window_extent() for t in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
