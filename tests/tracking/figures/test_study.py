"""The figures of a trial and of its study say what they show, and survive bad numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from mmsearch.tracking.figures.study import (
    importances,
    loss_curve,
    parallel_coordinates,
    study_history,
    trade_off,
)
from mmsearch.tracking.figures.style import save_png
from tests.support.drawings import WHOLE, legend, make_curve, make_rows, texts, title

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = math.nan, math.inf

# --- loss curve -----------------------------------------------------------------------------------


def test_loss_curve_names_its_lines_and_units() -> None:
    """The figure can be read without its caption."""
    figure = make_curve()
    losses, rates = figure.axes
    assert title(figure) == "names, trial 7"
    assert losses.get_ylabel() == "loss, nats per character"
    assert rates.get_xlabel() == "step"
    assert rates.get_ylabel() == "learning\nrate"
    assert legend(figure) == ["train minibatches", "train, mean of 5 points", "dev"]
    assert losses.get_xlim() == rates.get_xlim()
    assert f"{2.1 + math.exp(-2000 / 300):.3f}" in texts(figure)


def test_moving_mean_is_the_mean_of_its_window() -> None:
    """The smoothed line equals NumPy's mean over each window, cut at both ends."""
    losses = np.random.default_rng(0).normal(2, 0.3, 200)
    figure = loss_curve(list(enumerate(losses.tolist())), [], [], title="t")
    expected = [losses[max(0, i - 2) : i + 3].mean() for i in range(200)]
    np.testing.assert_allclose(np.asarray(figure.axes[0].lines[1].get_ydata()), expected)


def test_huge_first_losses_do_not_flatten_the_rest() -> None:
    """With the article's start near 27 nats, the view keeps to the losses near 2, and says so."""
    train = [(step, 2.2 + 25 * math.exp(-step / 20)) for step in range(2000)]
    figure = loss_curve(train, [(1000, 2.2), (2000, 2.1)], [], title="t")
    low, high = figure.axes[0].get_ylim()
    assert low < 2.1  # the last dev loss
    assert high < 5  # far below 27
    n_above = sum(loss > high for _, loss in train)
    assert title(figure) == f"t\n{n_above} points above the view, up to 27.2"


def test_last_dev_loss_stays_in_view() -> None:
    """A run that diverges at its end is seen to do so."""
    dev = [(step, 2.1) for step in range(50)] + [(50, 40.0)]
    figure = loss_curve([], dev, [], title="t")
    assert figure.axes[0].get_ylim()[1] > 40.0  # the last dev loss
    assert "40.000" in texts(figure)


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged trial still has its picture."""
    train = [(0, 3.3), (10, NAN), (20, INF), (30, 3.0)]
    figure = loss_curve(train, [(10, 3.1), (20, -INF)], [(0, 0.1), (10, NAN)], title="t")
    save_png(figure, tmp_path / "loss.png")
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert np.asarray(lines["train"].get_xdata()).tolist() == [0, 30]
    assert np.asarray(lines["dev"].get_xdata()).tolist() == [10]


@pytest.mark.parametrize("has_log_steps", [True, False])
def test_train_loss_of_the_scored_weights_stands_beside_dev(
    tmp_path: Path, *, has_log_steps: bool
) -> None:
    """Overfitting is the distance of two lines; the score is marked where it was taken."""
    steps = [100, 200, 400, 800, 1600]
    dev = list(zip(steps, [2.6, 2.3, 2.1234, 2.2, 2.4], strict=True))
    train = [(step, loss - 0.001 * step) for step, loss in dev]
    batch = [(step, 3.0 - step / 1600) for step in range(0, 1601, 10)]
    figure = loss_curve(
        batch, dev, [(step, 0.1) for step in steps], title="t", train=train, scored_step=400,
        is_averaged=True, has_log_steps=has_log_steps,
    )  # fmt: skip
    axes = figure.axes[0]
    assert legend(figure) == ["minibatches", "train, averaged weights", "dev, averaged weights"]
    assert axes.get_xscale() == ("log" if has_log_steps else "linear")
    assert axes.get_xlim() == figure.axes[1].get_xlim()
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(lines["train, averaged weights"], train)
    assert "2.123" in texts(figure)
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [np.asarray(ring.get_xydata()).tolist() for ring in rings] == [[[400, 2.1234]]]
    save_png(figure, tmp_path / "loss.png")


@pytest.mark.parametrize(
    ("train", "dev", "rates", "n_axes"),
    [
        ([(100, 3.3)], [], [(100, 0.1)], 2),
        ([], [(100, 3.3)], [], 1),
        ([], [], [], 1),
        ([(5, NAN)], [(5, NAN)], [(1, 0.0)], 2),
    ],
)
def test_loss_curve_of_next_to_nothing(
    train: list[tuple[int, float]],
    dev: list[tuple[int, float]],
    rates: list[tuple[int, float]],
    n_axes: int,
    tmp_path: Path,
) -> None:
    """A trial that was stopped at once has a figure too."""
    for has_log_steps in (True, False):
        figure = loss_curve(train, dev, rates, title="t", has_log_steps=has_log_steps)
        save_png(figure, tmp_path / "loss.png")
        assert len(figure.axes) == n_axes
    finite = [loss for _, loss in train + dev if math.isfinite(loss)]
    assert ("no finite losses" in texts(figure)) == (not finite)


@pytest.mark.parametrize(
    ("rates", "scale"),
    [
        ([(i, 0.1 * (1 - i / 101)) for i in range(101)], "linear"),
        ([(i, 0.1 * math.cos(i / 200 * math.pi) ** 2) for i in range(101)], "linear"),
        ([(i, 10.0 ** (-4 + i / 25)) for i in range(101)], "log"),
    ],
)
def test_learning_rate_axis_is_logarithmic_only_where_needed(
    rates: list[tuple[int, float]], scale: str
) -> None:
    """A decay to almost zero stays linear; a sweep over decades does not."""
    figure = loss_curve([(0, 3.3)], [], rates, title="t")
    assert figure.axes[1].get_yscale() == scale


# --- study ----------------------------------------------------------------------------------------


def test_history_shows_every_trial_and_the_best_so_far() -> None:
    """The best so far counts complete trials alone, and steps down to the last trial."""
    values = [
        (0, 2.5, "COMPLETE"), (1, 2.0, "PRUNED"), (2, 2.3, "COMPLETE"), (3, NAN, "FAIL"),
        (4, 2.4, "COMPLETE"), (5, 2.6, "PRUNED"), (6, 0.0, "RUNNING"),
    ]  # fmt: skip
    figure = study_history(values, title="names")
    axes = figure.axes[0]
    assert legend(figure) == ["pruned (2)", "complete (3)", "best so far", "failed (1)"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("trial", "dev loss, nats per character")
    best = next(line for line in axes.lines if line.get_label() == "best so far")
    assert np.asarray(best.get_ydata()).tolist() == [2.5, 2.3, 2.3, 2.3]
    assert "2.300" in texts(figure)
    assert axes.get_ylim()[0] > 1.9  # the running trial's 0.0 is not in it


def test_diverged_trials_do_not_flatten_the_history() -> None:
    """One trial at 1e9 nats leaves the others to be told apart."""
    values = [(n, 2.0 + 0.01 * n, "COMPLETE") for n in range(30)]
    figure = study_history([*values, (30, 1e9, "COMPLETE"), (31, INF, "PRUNED")], title="t")
    assert figure.axes[0].get_ylim()[1] < 3  # near the others
    assert title(figure) == "t\n1 point above the view, up to 1e+09"


def test_history_has_the_baselines_that_lie_near() -> None:
    """One inside or just outside of the view is named; one far away does not flatten the chart."""
    values = [(n, 2.0 + 0.01 * n, "COMPLETE") for n in range(30)]
    low, high = study_history(values, title="t").axes[0].get_ylim()
    near, far = {"inside": 2.1, "below": low - 0.03}, {"above": 3.3}

    figure = study_history(values, title="t", baselines=near | far)

    axes = figure.axes[0]
    assert {"inside", "below"} < set(texts(figure))
    assert "above" not in texts(figure)
    assert axes.get_ylim()[0] < low - 0.03
    assert axes.get_ylim()[1] == high
    assert legend(figure) == legend(study_history(values, title="t"))


@pytest.mark.parametrize("values", [[], [(0, NAN, "FAIL")], [(0, 2.0, "PRUNED")]])
def test_history_without_complete_trials(
    values: list[tuple[int, float, str]], tmp_path: Path
) -> None:
    """A study that has only begun has a figure."""
    figure = study_history(values, title="t")
    save_png(figure, tmp_path / "h.png")
    assert ("no finished trials" in texts(figure)) == (not values)


def test_importances_are_sorted_and_written_out(tmp_path: Path) -> None:
    """The hyperparameter that matters most is on top, with its share."""
    shares = {"block_size": 0.25, "learning_rate": 0.7, "hidden_width": 0.05, "odd": NAN}
    figure = importances(shares, title="names")
    save_png(figure, tmp_path / "i.png")
    axes = figure.axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels[::-1] == ["learning_rate", "block_size", "hidden_width"]
    assert [t.get_text() for t in axes.texts][::-1] == ["0.70", "0.25", "0.05"]
    assert "variance" in axes.get_xlabel()


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}])
def test_importances_of_nothing(shares: dict[str, float], tmp_path: Path) -> None:
    """No importance can be known from one trial; the figure says so."""
    figure = importances(shares, title="t")
    save_png(figure, tmp_path / "i.png")
    assert ("no importances" in texts(figure)) == (not shares)


def test_pareto_front_is_what_no_trial_beats_in_both() -> None:
    """Fewer parameters or a lower loss; of two alike the first; none that diverged."""
    points = [
        (0, 1000, 2.5), (1, 2000, 2.6), (2, 3000, 2.2), (3, 3000, 2.3), (4, 9000, 2.2),
        (5, 500, INF), (6, 20_000, 2.1),
    ]  # fmt: skip
    figure = trade_off(points, title="names")
    axes = figure.axes[0]
    front = next(line for line in axes.lines if line.get_label() == "Pareto front")
    assert np.asarray(front.get_xdata()).tolist() == [1000, 3000, 20_000]
    assert np.asarray(front.get_ydata()).tolist() == [2.5, 2.2, 2.1]
    assert [text for text in texts(figure) if text in set("0123456")] == ["6", "2", "0"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("parameters", "dev loss, nats per character")
    assert (axes.get_xscale(), title(figure)) == ("log", "names")


def test_numbers_of_crowded_trials_do_not_touch() -> None:
    """Of a hundred trials on one front as many are numbered as there is room for."""
    points = [(n, 10_000 + n, 2.5 - 0.001 * n) for n in range(100)]
    figure = trade_off(points, title="t")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 3 < len(boxes) < 100
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("points", [[], [(0, 100, NAN)], [(0, 100, 2.0)]])
def test_trade_off_of_next_to_nothing(points: list[tuple[int, int, float]], tmp_path: Path) -> None:
    """It draws, or says why not."""
    figure = trade_off(points, title="t")
    save_png(figure, tmp_path / "t.png")
    assert ("no complete trials" in texts(figure)) == (points != [(0, 100, 2.0)])


def test_parallel_coordinates_keep_their_units() -> None:
    """Each axis is ticked in its own unit, logarithmic where named; the best line is on top."""
    rows = [
        ({"block_size": 2, "learning_rate": 0.001}, 2.2),
        ({"block_size": 8, "learning_rate": 0.1}, 2.0),
        ({"block_size": 5, "learning_rate": 0.01}, 2.1),
        ({"block_size": 5, "learning_rate": 0.01}, NAN),
    ]
    figure = parallel_coordinates(rows, log_axes=frozenset({"learning_rate"}), title="names")
    axes, bar = figure.axes
    headings = [t.get_text() for t in axes.get_xticklabels()]
    assert headings == ["block\nsize", "learning\nrate\n(log)", "dev\nloss"]
    assert bar.get_ylabel() == "dev loss, nats per character"
    ticks = {t.get_text() for t in axes.texts}
    assert {"2", "8", "0.001", "0.01", "0.1", "2.10"} <= ticks
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    heights = [np.asarray(segment)[:, 1].tolist() for segment in lines.get_segments()]
    expected = np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 0.5], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(np.array(heights), expected, atol=1e-9)
    assert np.asarray(lines.get_array()).tolist() == [2.2, 2.1, 2.0]
    best, worst = (sum(lines.cmap(height)[:3]) for height in (0.0, 1.0))
    assert best < worst
    thick = [
        np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_linewidth() > 1.5
    ]
    assert thick == [[1.0, 1.0, 0.0]]
    assert title(figure) == "names\nthe best, 2.0000, in orange"


def test_narrow_log_axes_have_round_ticks() -> None:
    """Where 1, 2 and 5 times a power of ten do not suffice, ticks stand as on a linear axis."""
    rows = [({"learning_rate": rate}, 2.1) for rate in (0.12795, 0.287957)]
    parallel = parallel_coordinates(rows, log_axes=frozenset({"learning_rate"}), title="t")
    assert [t.get_text() for t in parallel.axes[0].texts][:3] == ["0.15", "0.2", "0.25"]
    figure = trade_off([(0, 18_300, 2.2), (1, 40_150, 2.1)], title="t")
    figure.draw_without_rendering()
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert labels == ["20,000", "25,000", "30,000", "35,000", "40,000"]


def test_diverged_trials_do_not_flatten_parallel_coordinates() -> None:
    """One trial at 1e9 nats is drawn at the upper end, and the title says so."""
    rows = [*make_rows(30), (WHOLE, 1e9)]
    figure = parallel_coordinates(rows, log_axes=frozenset(), title="t")
    assert (
        title(figure) == "t\nthe best, 2.0000, in orange; 1 with a loss above 2.29, drawn as 2.29"
    )


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(WHOLE, NAN)],
        [(WHOLE, 2.1)],
        [({}, 2.1)],
        [(WHOLE, 2.1), ({"weight_decay": 0.0}, 2.2)],
        [({"learning_rate": 0.0}, 2.1), ({"learning_rate": NAN}, 2.2)],
        [({"learning_rate": 0.21}, 2.1), ({"learning_rate": 0.22}, 2.1)],
        [({"learning_rate": NAN}, 2.1)],
    ],
)
def test_parallel_coordinates_of_next_to_nothing(
    rows: list[tuple[dict[str, float], float]], tmp_path: Path
) -> None:
    """Studies with one trial, one value, or trials of different spaces have a figure."""
    log = frozenset({"learning_rate", "weight_decay"})
    save_png(parallel_coordinates(rows, log_axes=log, title="t"), tmp_path / "p.png")
