"""What the figures share: one style, the parts of their axes, and how they become a file.

The style (Okabe-Ito colours, 6 in wide at 150 dpi, readable at 600 pixels) starts from matplotlib's
own defaults, so a `matplotlibrc` on the machine changes nothing. pyplot is never imported: a figure
belongs to its caller, in whatever thread, and nothing global is left.
"""

import io
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
P = ParamSpec("P")

# Okabe & Ito (2008), "Color universal design": told apart under every common colour blindness.
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
GREEN, BLACK, GREY, LIGHT = "#009E73", "#000000", "#5F5F5F", "#A8A8A8"

_FONT = "DejaVu Sans"  # ships with matplotlib: the same figure on every machine
_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titley": 1.0,  # fixed: finding a free height measures every label at every draw
    "figure.dpi": 150,
    "font.family": _FONT,
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.4,
    "savefig.dpi": "figure",
    "text.parse_math": False,  # "$" is a character like any other in a corpus or a study's name
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
WIDTH_IN = 6.0
_TITLE_LENGTH = 72  # characters in one line of the narrowest axes
_NEAR = 0.25
"""Share of a view's height by which it is widened for a baseline above or below it."""
_LINE_PT = 11.0
"""Height of a line of text in a margin, in points."""

# rc_context swaps process-wide settings: two threads at once would restore each other's.
_rc_lock = threading.Lock()


@contextmanager
def _style() -> Iterator[None]:
    with _rc_lock, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # wants a dict of its own literals
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the shared style, whatever the settings of the process."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return wrapper


def save_png(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` as PNG, whole or not at all.

    The same figure gives the same bytes: no date and no version is written into the file.
    """
    buffer = io.BytesIO()
    with _style():  # ticks are made while drawing
        figure.savefig(
            buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3}
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(buffer.getbuffer())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- the parts of a figure ------------------------------------------------------------------------


def figure(height_in: float, *, layout: Literal["constrained"] | None = None) -> Figure:
    """Make an empty figure of the shared width, which no window holds."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a known place, all in inches: constrained layout would draw everything twice."""
    w, h = figure.get_size_inches().tolist()
    axes = figure.add_axes((left / w, bottom / h, width / w, height / h))
    axes.yaxis.set_label_coords(-0.46 / width, 0.5)  # outside of "0.0001" at 8 points
    return axes


@cache
def _has_glyph(character: str) -> bool:
    font = font_manager.get_font(font_manager.findfont(_FONT))
    return bool(font.get_char_index(ord(character)))


def shown(text: str) -> str:
    """`text` with what the font cannot draw written as its code point."""
    return "".join(c if c.isprintable() and _has_glyph(c) else f"U+{ord(c):04X}" for c in text)


def set_title(axes: Axes, title: str, detail: str = "") -> None:
    """Write the title, cut to one line, over `detail`; the legend comes first."""
    title = shown(title)
    if len(title) > _TITLE_LENGTH:
        title = title[: _TITLE_LENGTH - 1] + "…"
    above_legend = 19 if axes.get_legend() else 6
    axes.set_title(f"{title}\n{detail}".strip(), pad=above_legend)


def legend_above(axes: Axes) -> None:
    """Put the legend in a row between title and axes, where it covers no point."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.3, borderpad=0,
        handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip


def view(values: Floats) -> tuple[float, float]:
    """Lower and upper end of a view in which a few huge losses do not flatten the rest.

    The upper end is Tukey's far-out fence (1977), three interquartile ranges above the third
    quartile, but only where the values beyond it would take more than half of the height.
    """
    low, high = float(values.min()), float(values.max())
    q25, q75 = np.quantile(values, (0.25, 0.75))
    fence = float(q75 + 3 * (q75 - q25))
    if low < fence and high - low > 2 * (fence - low):
        high = float(values[values <= fence].max())
    return low, high


def set_view(axes: Axes, values: Floats, keep: float | None = None) -> str:
    """Fit the y-axis to `values`, with `keep` in view; returns what to say of those cut off."""
    low, high = view(values)
    high = high if keep is None else max(high, keep)
    pad = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - pad, high + pad)
    n_above = int((values > high + pad).sum())
    if not n_above:
        return ""
    points = "point" if n_above == 1 else "points"
    return f"{n_above:,} {points} above the view, up to {values.max():.3g}"


def at_right(axes: Axes, value: float, text: str, color: str) -> None:
    """Write `text` in the right margin at the height of `value`."""
    axes.annotate(
        text, (1, value), (4, 0), ("axes fraction", "data"), "offset points",
        va="center", fontsize=8, color=color, annotation_clip=False,
    )  # fmt: skip


def draw_baselines(axes: Axes, baselines: Mapping[str, float], best: float | None) -> None:
    """Draw the baselines that lie in the view or so near that it can be widened to them.

    Args:
        axes: with their view settled.
        baselines: name to dev loss.
        best: the dev loss that is written into the right margin already, if there is one.
    """
    low, high = axes.get_ylim()
    room = _NEAR * (high - low)
    near = {name: v for name, v in baselines.items() if low - room <= v <= high + room}
    if not near:
        return
    pad = 0.06 * (high - low)
    axes.set_ylim(min(low, min(near.values()) - pad), max(high, max(near.values()) + pad))
    low, high = axes.get_ylim()
    height_pt = 72 * axes.get_window_extent().height / axes.figure.dpi
    for name, value in near.items():
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1.5)
        gap_pt = 0.0 if best is None else (value - best) / (high - low) * height_pt
        is_free = best is None or abs(gap_pt) >= _LINE_PT
        shift_pt = 0.0 if is_free else math.copysign(_LINE_PT, gap_pt) - gap_pt
        axes.annotate(
            name, (1, value), (4, shift_pt), ("axes fraction", "data"), "offset points",
            va="center", fontsize=8, color=GREY, annotation_clip=False,
        )  # fmt: skip


def whole_steps(axes: Axes, label: str) -> None:
    """Tick the x-axis at whole numbers, and name it."""
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel(label)


def say_empty(axes: Axes, text: str) -> None:
    """Write into the empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
