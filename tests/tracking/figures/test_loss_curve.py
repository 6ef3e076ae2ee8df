"""The loss curve shows each point once, and survives bad numbers."""

import math
from pathlib import Path

import numpy as np
import pytest

from mmsearch.tracking.figures.loss_curve import loss_curve
from mmsearch.tracking.figures.style import save_figure
from tests.support.drawings import legend, texts, title

pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = math.nan, math.inf


def test_huge_first_losses_do_not_flatten_the_rest() -> None:
    batch = [(step, 2.2 + 25 * math.exp(-step / 20)) for step in range(2000)]
    figure = loss_curve(batch, [(1000, 2.2), (2000, 2.1)], [], title="t")
    low, high = figure.axes[0].get_ylim()
    assert low < 2.1 < high < 5
    assert str(sum(loss > high for _, loss in batch)) in title(figure)


def test_descent_of_a_long_training_stays_in_view() -> None:
    """Three quarters of its points lie within a thousandth of a nat."""
    points = [(1000 * i, 2 + math.exp(-i / 100)) for i in range(5000)]
    figure = loss_curve(points, points[::100], [], title="t")
    assert figure.axes[0].get_ylim()[1] > 2.05


def test_last_dev_loss_stays_in_view() -> None:
    dev = [(step, 2.1) for step in range(50)] + [(50, 40.0)]
    figure = loss_curve([], dev, [], title="t")
    assert figure.axes[0].get_ylim()[1] > 40.0
    assert "40.000" in texts(figure)


@pytest.mark.parametrize("has_log_steps", [True, False])
def test_train_and_dev_stand_side_by_side_and_the_score_is_marked(
    tmp_path: Path, *, has_log_steps: bool
) -> None:
    steps = [100, 200, 400, 800, 1600]
    dev = list(zip(steps, [2.6, 2.3, 2.1234, 2.2, 2.4], strict=True))
    train = [(step, loss - 0.001 * step) for step, loss in dev]
    batch = [(step, 3.0 - step / 1600) for step in range(0, 1601, 10)]
    figure = loss_curve(
        [*batch, (5, INF)], [*dev, (150, NAN)], [(step, 0.1) for step in steps], title="t",
        train=train, scored_step=400, is_averaged=True, has_log_steps=has_log_steps,
    )  # fmt: skip
    axes = figure.axes[0]
    assert legend(figure) == ["minibatches", "train, averaged weights", "dev, averaged weights"]
    assert axes.get_xscale() == ("log" if has_log_steps else "linear")
    assert axes.get_xlim() == figure.axes[1].get_xlim()
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_allclose(lines["train, averaged weights"], train)
    np.testing.assert_allclose(lines["dev, averaged weights"], dev)
    assert "2.123" in texts(figure)
    circles = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [np.asarray(circle.get_xydata()).tolist() for circle in circles] == [[[400, 2.1234]]]
    save_figure(figure, tmp_path / "loss.png")


@pytest.mark.parametrize(
    ("batch", "dev", "rates", "n_axes"),
    [
        ([(100, 3.3)], [], [(100, 0.1)], 2),
        ([], [(100, 3.3)], [], 1),
        ([], [], [], 1),
        ([(5, NAN)], [(5, NAN)], [(1, 0.0)], 2),
    ],
)
def test_next_to_nothing_is_drawn(
    batch: list[tuple[int, float]],
    dev: list[tuple[int, float]],
    rates: list[tuple[int, float]],
    n_axes: int,
    tmp_path: Path,
) -> None:
    for has_log_steps in (True, False):
        figure = loss_curve(batch, dev, rates, title="t", has_log_steps=has_log_steps)
        save_figure(figure, tmp_path / "loss.png")
        assert len(figure.axes) == n_axes


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
    assert loss_curve([(0, 3.3)], [], rates, title="t").axes[1].get_yscale() == scale
