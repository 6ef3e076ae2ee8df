"""Figures are whole, readable and the same each time, and leave nothing behind."""

import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmsearch.tracking.figures.confirmation import confirmation
from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.loss_curve import loss_curve
from mmsearch.tracking.figures.lr_range import lr_range
from mmsearch.tracking.figures.study import (
    importances,
    parallel_coordinates,
    study_history,
    trade_off,
)
from mmsearch.tracking.figures.style import Format, save_figure
from tests.support.drawings import (
    CHARACTERS,
    WHOLE,
    make_curve,
    make_embedding,
    make_rows,
    texts,
    title,
)

pytestmark = pytest.mark.filterwarnings("error")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH_PX = 900


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


def crowded(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts around the axes that overlap: title, legend, labels of axes and ticks."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes:
        legend, view = axes.get_legend(), axes.get_window_extent().padded(3)
        others = [axes.xaxis.label, axes.yaxis.label, *(legend.get_texts() if legend else [])]
        others += [axis.get_offset_text() for axis in (axes.xaxis, axes.yaxis)]
        others += [t for t in axes.findobj(Text) if title(figure) == t.get_text()]
        # Matplotlib keeps unused tick labels outside of the view.
        for ticks, side in (
            (axes.get_xticklabels(), "intervalx"),
            (axes.get_yticklabels(), "intervaly"),
        ):
            low, high = getattr(view, side)
            others += [
                t for t in ticks if low <= np.mean(getattr(t.get_window_extent(), side)) <= high
            ]
        drawn = [
            (t.get_text(), t.get_window_extent())
            for t in others
            if t.get_text() and t.get_visible()
        ]
        found += [
            (name, other)
            for i, (name, box) in enumerate(drawn)
            for other, other_box in drawn[:i]
            if box.overlaps(other_box)
        ]
    return found


HISTORY = [(n, 2.5 - 0.01 * n, "PRUNED" if n % 3 else "COMPLETE") for n in range(50)]
FIGURES: dict[str, Callable[[], Figure]] = {
    "loss_curve": make_curve,
    "embedding_2": lambda: embedding_scatter(make_embedding(2), CHARACTERS, title="names"),
    "embedding_10": lambda: embedding_scatter(make_embedding(10), CHARACTERS, title="names"),
    "study_history": lambda: study_history([*HISTORY, (50, math.nan, "FAIL")], title="names"),
    "importances": lambda: importances({"learning_rate": 0.7, "block_size": 0.3}, title="names"),
    "trade_off": lambda: trade_off(
        [(n, 900 * n, 3 - 0.01 * n) for n in range(1, 50)], title="names"
    ),
    "parallel": lambda: parallel_coordinates(
        make_rows(20), log_axes=frozenset({"learning_rate"}), title="names"
    ),
}
"""Draws one ordinary figure of each kind."""


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_figure_is_whole_readable_and_the_same_each_time(
    draw: Callable[[], Figure], tmp_path: Path
) -> None:
    """In each format: neither a date nor a random id of an element is in a file for print."""
    assert clipped(draw()) == []
    signatures: dict[Format, bytes] = {"png": PNG_SIGNATURE, "svg": b"<?xml", "pdf": b"%PDF"}
    for form, signature in signatures.items():
        first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
        save_figure(draw(), first, form)
        save_figure(draw(), second, form)
        assert first.read_bytes() == second.read_bytes(), form
        assert first.read_bytes().startswith(signature)
    # Read by its header, without matplotlib: IHDR holds the width in bytes 16 to 20.
    assert int.from_bytes((tmp_path / "a.png").read_bytes()[16:20], "big") == WIDTH_PX
    assert len(list(tmp_path.iterdir())) == 6, "nothing else is left behind"


SPREAD = [i / 40 for i in range(41)]
BASELINES = {"uniform": 3.29, "bigram": 2.45, "n-gram": 2.05}


def make_extremes(low: float, high: float) -> dict[str, Figure]:
    """Draw each figure of losses from `low` to `high`."""
    losses = [low + (high - low) * share for share in SPREAD]
    curve = [(100 * i, loss) for i, loss in enumerate(reversed(losses), start=1)]
    parameters = [int(10 ** (1 + 8 * share)) for share in SPREAD]
    rows = [
        ({**WHOLE, "learning_rate": 0.1 + 1e-7 * i, "weight_decay": 10.0 ** (i / 4 - 9)}, loss)
        for i, loss in enumerate(losses)
    ]
    rates = np.geomspace(0.1, 0.2, len(losses))
    seeds = np.array([losses[::-1]] * 3)
    return {
        "history": study_history(
            [(n, loss, "COMPLETE") for n, loss in enumerate(losses)], title="t", baselines=BASELINES
        ),
        "trade_off": trade_off(
            [(n, *pair) for n, pair in enumerate(zip(parameters, losses, strict=True))], title="t"
        ),
        "parallel": parallel_coordinates(
            rows, log_axes=frozenset({"learning_rate", "weight_decay"}), title="t"
        ),
        "confirmation": confirmation(
            [(12345 + n, loss, losses[n : n + 3]) for n, loss in enumerate(losses[:38])], title="t"
        ),
        "loss": loss_curve(curve, curve, [(x, 1e-6) for x, _ in curve], title="t", scored_step=900),
        "lr_range": lr_range(rates, seeds, seeds, (0.12, 0.15), title="t", detail="3 seeds"),
        "importance": importances({"learning_rate": high * 1e-9, "context_noise": 0.0}, title="t"),
    }


@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 2.3), (10.0, 99.9), (100.0, 9999.0), (2.1, 2.1 + 1e-7), (1.0, 9999.0)]
)
def test_extreme_losses_leave_the_labels_legible(low: float, high: float) -> None:
    """Neither is one cut by the edge, nor does one cover another."""
    figures = make_extremes(low, high)

    for name, figure in figures.items():
        assert clipped(figure) == [], name
        assert crowded(figure) == [], name
        assert not [text for text in texts(figure) if "math" in text], name


@pytest.mark.parametrize("character", ["W", "\U00030001", "i"])
def test_long_title_is_cut_where_the_figure_ends(character: str) -> None:
    """Letters differ in width by a factor of four, code points stand for one letter."""
    long = f"trial 1 of {200 * character}"
    for figure in (
        study_history(HISTORY, title=long),
        importances({"learning_rate": 0.7, "block_size": 0.3}, title=long),
        parallel_coordinates(make_rows(9), log_axes=frozenset(), title=long),
        embedding_scatter(make_embedding(2), CHARACTERS, title=long),
    ):
        assert clipped(figure) == []
        assert f"trial 1 of {'U+30001' if ord(character) > 999 else 9 * character}" in title(figure)


def test_settings_of_the_machine_neither_show_nor_change(tmp_path: Path) -> None:
    save_figure(make_curve(), tmp_path / "a.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        before = dict(mpl.rcParams)
        save_figure(make_curve(), tmp_path / "b.png")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: save_figure(make_curve(), tmp_path / f"{i}.png"), range(4)))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from mmsearch.tracking.figures.embedding import *\n"
        "from mmsearch.tracking.figures.study import *\n"
        "from mmsearch.tracking.figures.style import save_figure\n"
        "save_figure(importances({'a': 1.0}, title='t'), Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    subprocess.run(command, check=True)  # our own code
