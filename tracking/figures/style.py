"""What the figures share: one style, the parts of their axes, and how they are written.

The style (Okabe-Ito colours, 6 in wide at 150 dpi, readable at 600 pixels) starts from matplotlib's
own defaults, so a `matplotlibrc` on the machine changes nothing. pyplot is never imported, so that
figures can be drawn in any thread and leave no global state.
"""

import io
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
)
from numpy.typing import NDArray

from mmsearch.tracking.figures import fonts
from mmsearch.tracking.journal import files

Floats = NDArray[np.float64]
P = ParamSpec("P")
Format = Literal["png", "svg", "pdf"]
"""File formats of figures."""
_NO_ORIGIN: Final[Mapping[Format, Mapping[str, None]]] = {
    "svg": {"Creator": None, "Date": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""Metadata that matplotlib would write, with the date and its version."""

# Okabe & Ito (2008), "Color universal design": told apart under every common colour blindness.
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
GREEN, BLACK, GREY, LIGHT = "#009E73", "#000000", "#5F5F5F", "#A8A8A8"
HALO: Final[dict[str, Any]] = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.8}
"""Box behind a text that may cover a line."""
NATS = "nats per character"
WIDTH_IN = 6.0
MIN_VIEW = 0.005
"""Height of a view of losses that hardly differ: smaller differences are not worth a look."""
_LABEL_IN = 0.13
"""Height of a label at 8 points, in inches."""
_NEAR = 0.25
"""Share of a view's height by which it is extended to show a baseline above or below it."""

_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,  # it would stand in the legend
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titley": 1.0,  # fixed: finding a free height measures every label at every draw
    "figure.dpi": 150,
    "font.family": fonts.OWN,
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.4,
    "savefig.dpi": "figure",
    "svg.hashsalt": "mmsearch",  # ids in an SVG file are otherwise random
    "text.parse_math": False,  # "$" is a character like any other in a corpus or a study's name
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}

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


def save_figure(figure: Figure, path: Path, form: Format = "png") -> None:
    """Write a figure as a file, atomically.

    The same figure gives the same bytes: no date and no version is written into the file.

    Raises:
        JournalError: the file cannot be written.
    """
    content = io.BytesIO()
    with _style():  # ticks are made while drawing
        if form == "png":
            figure.savefig(
                content, format=form, metadata={"Software": None}, pil_kwargs={"compress_level": 3}
            )
        else:
            figure.savefig(content, format=form, metadata=_NO_ORIGIN[form])
    files.replace(path, content.getvalue(), opener=None, is_flushed=False)


def figure(height_in: float) -> Figure:
    """Make an empty figure of the shared width."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    FigureCanvasAgg(figure)
    return figure


def text_width(figure: Figure, text: str) -> float:
    """Return the width of a text beside an axis, in inches."""
    size = mpl.rcParams["ytick.labelsize"]
    return (
        float(Text(0, 0, text, figure=figure, fontsize=size).get_window_extent().width) / figure.dpi
    )


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches; a layout engine would draw everything twice."""
    w, h = figure.get_size_inches().tolist()
    axes = figure.add_axes((left / w, bottom / h, width / w, height / h))
    axes.yaxis.set_label_coords(-0.46 / width, 0.5)  # outside of "0.0001" at 8 points
    return axes


def set_title(axes: Axes, title: str, detail: str = "") -> None:
    """Set the title, cut to one line, above lines of detail; call it after `legend_above`."""
    title = fonts.drawable(title)
    pad = 19 if axes.get_legend() else 6
    text = axes.set_title(title, pad=pad, fontfamily=fonts.families(title))
    room, kept = axes.figure.bbox.x1 - axes.bbox.x0 - 10, len(title)
    while (width := text.get_window_extent().width) > room and kept:
        kept = min(kept - 1, int(kept * room / width))
        text.set_text(title[:kept] + "…")
    text.set_text(f"{text.get_text()}\n{detail}".strip())


def legend_above(axes: Axes) -> None:
    """Put the legend in a row between title and axes, where it covers no point."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.3, borderpad=0,
        handletextpad=0.4, columnspacing=1.4,
    )  # fmt: skip


def finite_points(pairs: object) -> Floats:
    """Return the finite (x, y) pairs in order of x; float64, shape (N, 2)."""
    points = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    return points[np.argsort(points[:, 0], kind="stable")]


def view(values: Floats) -> tuple[float, float]:
    """Return the ends of an axis on which a few huge losses do not flatten the rest.

    Losses that hardly differ lie in the middle. The upper end is Tukey's far-out fence (1977),
    three interquartile ranges above the third quartile, but only where the values beyond it would
    take more than half of the height.
    """
    low, high = float(values.min()), float(values.max())
    q25, q75 = np.quantile(values, (0.25, 0.75))
    fence = float(q75 + 3 * (q75 - q25))
    if low < fence and high - low > 2 * (fence - low):
        high = float(values[values <= fence].max())
    least = max(MIN_VIEW, 1e-4 * abs(high)) if low < high else 0.2
    room = max(0.0, least - (high - low)) / 2
    return low - room, high + room


def set_view(axes: Axes, values: Floats, keep: float | None = None) -> str:
    """Fit the y-axis to the values, `keep` included; return a note on the points above it."""
    low, high = view(values)
    high = high if keep is None else max(high, keep)
    pad = 0.06 * (high - low)
    axes.set_ylim(low - pad, high + pad)
    n_above = int((values > high + pad).sum())
    points = "point" if n_above == 1 else "points"
    return f"{n_above:,} {points} above the view, up to {values.max():.3g}" if n_above else ""


def loss_text(loss: float, decimals: int = 4) -> str:
    """Format a loss in the room that one below 100 needs with these decimals."""
    return f"{loss:.{max(0, decimals + 2 - max(2, len(str(int(abs(loss))))))}f}"


def at_right(axes: Axes, value: float, text: str, color: str) -> None:
    """Write a text in the right margin at the height of a value."""
    axes.annotate(
        text, (1, value), (4, 0), ("axes fraction", "data"), "offset points",
        va="center", fontsize=8, color=color, annotation_clip=False,
    )  # fmt: skip


def draw_baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """Draw the baselines (name to dev loss) that lie in the view, which must be set, or near it."""
    low, high = axes.get_ylim()
    room, pad = _NEAR * (high - low), 0.06 * (high - low)
    near = {name: v for name, v in baselines.items() if low - room <= v <= high + room}
    if not near:
        return
    low, high = min(low, min(near.values()) - pad), max(high, max(near.values()) + pad)
    axes.set_ylim(low, high)
    height = (high - low) * _LABEL_IN * axes.figure.dpi / axes.bbox.height
    labels: list[tuple[float, list[str]]] = []
    for name, value in sorted(near.items(), key=lambda item: item[1]):
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1.5)
        is_near = labels and value - labels[-1][0] < height
        names = labels.pop()[1] if is_near else []
        labels.append((value, [*names, name]))
    for value, names in labels:
        axes.annotate(
            ", ".join(names), (0, value), (3, 2), ("axes fraction", "data"), "offset points",
            fontsize=8, color=GREY, zorder=1.6,
        )  # fmt: skip


def whole_steps(axes: Axes, label: str) -> None:
    """Tick the x-axis at whole numbers, and label it."""
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float, *, whole: bool) -> None:
    """Make the x-axis logarithmic from `low` to `high`, with ticks at round or whole numbers."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    places = ticks(low, high, log=True, whole=whole)
    labels = [f"{x:,.0f}" for x in places] if whole else tick_labels(places)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.xaxis.set_minor_formatter(NullFormatter())


def ticks(low: float, high: float, *, log: bool, whole: bool) -> list[float]:
    """Return round numbers from `low` to `high`; for a log axis the fewest that suffice."""
    if low == high:
        return [low]
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            chosen = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
            if len(chosen) >= 3:  # noqa: PLR2004  # enough to read a scale from
                return chosen[:: math.ceil(len(chosen) / 6)]  # more would overlap
        # Less than a decade: as on a linear axis.
    locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(t) for t in locator.tick_values(low, high) if low <= t <= high]


def tick_labels(places: Sequence[float]) -> list[str]:
    """Format the ticks of an axis with as many digits as tell them apart, at least 6."""
    labels: list[str] = []
    for digits in range(6, 18):
        labels = [f"{place:.{digits}g}" for place in places]
        if len(set(labels)) == len(places):
            break
    return labels


def note_empty(axes: Axes, text: str) -> None:
    """Write into empty axes, without their meaningless ticks, why they are empty."""
    axes.set(xticks=[], yticks=[])
    axes.tick_params(which="both", length=0)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
