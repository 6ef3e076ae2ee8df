"""Figures say what they show, survive bad numbers, and are written whole and the same each time."""

import math
import string
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmsearch.tracking.figures import (
    embedding_scatter,
    importances,
    loss_curve,
    parallel_coordinates,
    save_png,
    study_history,
)

CHARACTERS = [".", *string.ascii_lowercase]
NAN, INF = math.nan, math.inf
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH_PX = 900
WHOLE = {"embedding_dim": 10, "hidden_width": 200, "block_size": 3, "learning_rate": 0.2}


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make_curve() -> Figure:
    """Draw a curve of 200 train and 10 dev points."""
    train = [(step, 2.0 + math.exp(-step / 300)) for step in range(0, 2000, 10)]
    dev = [(step, 2.1 + math.exp(-step / 300)) for step in range(200, 2001, 200)]
    rates = [(step, 0.1 * (1 - step / 2000)) for step in range(0, 2000, 10)]
    return loss_curve(train, dev, rates, title="names, trial 7")


def make_embedding(n_dims: int, n_rows: int = len(CHARACTERS)) -> np.ndarray:
    """Make rows with some structure, float64, shape (n_rows, n_dims)."""
    return np.random.default_rng(n_dims).normal(size=(n_rows, n_dims)) * np.arange(1, n_dims + 1)


def make_rows(n: int) -> list[tuple[dict[str, float], float]]:
    """Make n trials of four hyperparameters."""
    return [({**WHOLE, "learning_rate": 10.0 ** (-1 - i / n)}, 2.0 + 0.01 * i) for i in range(n)]


def texts(figure: Figure) -> list[str]:
    """Every piece of text in the figure."""
    return [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]


def legend(figure: Figure) -> list[str]:
    """Labels in the legend of the figure's first axes."""
    found = figure.axes[0].get_legend()
    return [] if found is None else [t.get_text() for t in found.get_texts()]


def title(figure: Figure) -> str:
    """Title of the figure's first axes."""
    return figure.axes[0].get_title(loc="left")


def clipped(figure: Figure) -> list[str]:
    """Visible text that leaves the figure."""
    figure.canvas.draw()
    box = figure.bbox
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        extent = text.get_window_extent()
        if (
            text.get_visible() and text.get_text() and text.axes is not None
            and (extent.x0 < 0 or extent.y0 < 0 or extent.x1 > box.x1 or extent.y1 > box.y1)
            # Matplotlib keeps unused tick labels outside of the view.
            and extent.x1 > 0 and extent.y1 > 0 and extent.x0 < box.x1 and extent.y0 < box.y1
        ):  # fmt: skip
            found.append(text.get_text())
    return found


def every_figure() -> dict[str, Figure]:
    """Draw one ordinary figure of each kind."""
    history = [(n, 2.5 - 0.01 * n, "PRUNED" if n % 3 else "COMPLETE") for n in range(50)]
    log = frozenset({"learning_rate"})
    return {
        "loss_curve": make_curve(),
        "embedding_2": embedding_scatter(make_embedding(2), CHARACTERS, title="names"),
        "embedding_10": embedding_scatter(make_embedding(10), CHARACTERS, title="names"),
        "study_history": study_history([*history, (50, NAN, "FAIL")], title="names"),
        "importances": importances({"learning_rate": 0.7, "block_size": 0.3}, title="names"),
        "parallel": parallel_coordinates(make_rows(20), log_axes=log, title="names"),
    }


@pytest.mark.parametrize("name", list(every_figure()))
def test_png_is_whole_readable_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    """A figure drawn again from the same numbers gives the same file, so a replay changes none."""
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    save_png(every_figure()[name], first)
    save_png(every_figure()[name], second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(PNG_SIGNATURE)
    # Read by its header, without matplotlib: IHDR holds the width in bytes 16 to 20.
    assert int.from_bytes(first.read_bytes()[16:20], "big") == WIDTH_PX
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("name", list(every_figure()))
def test_no_text_is_cut_off(name: str) -> None:
    """Nothing that a figure says lies outside of it."""
    assert clipped(every_figure()[name]) == []


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new figure, and neither the old one nor a stray file."""
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")

    def no_space(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space"):
        save_png(make_curve(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_of_the_machine_neither_show_nor_change(tmp_path: Path) -> None:
    """A person's matplotlibrc changes no figure, and no figure changes a person's settings."""
    save_png(make_curve(), tmp_path / "a.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        before = dict(mpl.rcParams)
        save_png(make_curve(), tmp_path / "b.png")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Figures are drawn off the training path: at the same time, the files are still the same."""
    before = dict(mpl.rcParams)
    threads = [
        threading.Thread(target=lambda i=i: save_png(make_curve(), tmp_path / f"{i}.png"))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == len(threads)
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    """The state machine of pyplot holds every figure it makes, and may look for a display."""
    code = (
        "import sys; from pathlib import Path; from mmsearch.tracking.figures import *\n"
        "save_png(importances({'a': 1.0}, title='t'), Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    subprocess.run(command, check=True)  # noqa: S603  # our own code


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
    assert low < 2.1  # noqa: PLR2004  # the last dev loss
    assert high < 5  # noqa: PLR2004  # far below 27
    n_above = sum(loss > high for _, loss in train)
    assert title(figure) == f"t\n{n_above} points above the view, up to 27.2"


def test_last_dev_loss_stays_in_view() -> None:
    """A run that diverges at its end is seen to do so."""
    dev = [(step, 2.1) for step in range(50)] + [(50, 40.0)]
    figure = loss_curve([], dev, [], title="t")
    assert figure.axes[0].get_ylim()[1] > 40.0  # noqa: PLR2004  # the last dev loss
    assert "40.000" in texts(figure)


def test_points_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged trial still has its picture."""
    train = [(0, 3.3), (10, NAN), (20, INF), (30, 3.0)]
    figure = loss_curve(train, [(10, 3.1), (20, -INF)], [(0, 0.1), (10, NAN)], title="t")
    save_png(figure, tmp_path / "loss.png")
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert np.asarray(lines["train"].get_xdata()).tolist() == [0, 30]
    assert np.asarray(lines["dev"].get_xdata()).tolist() == [10]


@pytest.mark.parametrize(
    ("train", "dev", "rates", "n_axes"),
    [
        ([(100, 3.3)], [], [(100, 0.1)], 2),
        ([], [(100, 3.3)], [], 1),
        ([], [], [], 1),
        ([(5, NAN)], [(5, NAN)], [(0, 0.0)], 2),
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
    figure = loss_curve(train, dev, rates, title="t")
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


# --- embedding ------------------------------------------------------------------------------------


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
    assert 20 < n_labels <= 150  # noqa: PLR2004  # neither none nor a black cloud
    assert title(figure).endswith(f"{n_labels} of 5,000 characters labelled")


def test_rows_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged model still has its picture, even an empty one."""
    embedding = make_embedding(3)
    embedding[4] = NAN
    figure = embedding_scatter(embedding, CHARACTERS, title="t")
    assert [t.get_text() for t in figure.axes[0].texts] == CHARACTERS[:4] + CHARACTERS[5:]
    empty = embedding_scatter(np.full((27, 3), INF), CHARACTERS, title="t")
    save_png(empty, tmp_path / "e.png")
    assert "no finite embeddings" in texts(empty)


def test_embedding_of_other_characters_is_refused() -> None:
    """Rows that belong to other characters would make a wrong picture."""
    with pytest.raises(ValueError, match=r"shape \(27, 2\), characters are 26"):
        embedding_scatter(make_embedding(2), CHARACTERS[1:], title="t")


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
    assert axes.get_ylim()[0] > 1.9  # noqa: PLR2004  # the running trial's 0.0 is not in it


def test_diverged_trials_do_not_flatten_the_history() -> None:
    """One trial at 1e9 nats leaves the others to be told apart."""
    values = [(n, 2.0 + 0.01 * n, "COMPLETE") for n in range(30)]
    figure = study_history([*values, (30, 1e9, "COMPLETE"), (31, INF, "PRUNED")], title="t")
    assert figure.axes[0].get_ylim()[1] < 3  # noqa: PLR2004  # near the others
    assert title(figure) == "t\n1 point above the view, up to 1e+09"


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
    assert axes.get_xlabel() == "share of the total importance"


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}])
def test_importances_of_nothing(shares: dict[str, float], tmp_path: Path) -> None:
    """No importance can be known from one trial; the figure says so."""
    figure = importances(shares, title="t")
    save_png(figure, tmp_path / "i.png")
    assert ("no importances" in texts(figure)) == (not shares)


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
    assert {"2", "8", "0.001", "0.01", "0.1", "2.1"} <= ticks
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    heights = [np.asarray(segment)[:, 1].tolist() for segment in lines.get_segments()]
    expected = [[0, 0, 1], [0.5, 0.5, 0.5], [1, 1, 0]]
    np.testing.assert_allclose(np.array(heights), expected, atol=1e-9)
    assert np.asarray(lines.get_array()).tolist() == [2.2, 2.1, 2.0]
    best, worst = (sum(lines.cmap(height)[:3]) for height in (0.0, 1.0))
    assert best < worst


def test_diverged_trials_do_not_flatten_parallel_coordinates() -> None:
    """One trial at 1e9 nats is drawn at the upper end, and the title says so."""
    rows = [*make_rows(30), (WHOLE, 1e9)]
    figure = parallel_coordinates(rows, log_axes=frozenset(), title="t")
    assert title(figure) == "t\n1 with a loss above 2.29, drawn as 2.29"


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
