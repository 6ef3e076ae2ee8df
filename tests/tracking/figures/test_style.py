"""Figures are whole, readable and the same each time, and leave nothing behind."""

import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.study import (
    importances,
    parallel_coordinates,
    study_history,
    trade_off,
)
from mmsearch.tracking.figures.style import Format, save_figure
from tests.support.drawings import CHARACTERS, make_curve, make_embedding, make_rows, title

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
