"""Loss curves in a terminal's characters: each has a mark of its own, so that none needs a colour.

Steps are drawn to a log scale: the curves bend less there, and a trial's first tenth, in which most
are pruned, gets as much room as the rest. docs/log.md says why this is no library's chart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_ROWS = 4
"""Below which a curve says nothing."""
_LABEL = 6
"""Columns for a loss, left of the axis."""
_TOP = 1.5
"""Highest loss shown, in spans of the first curve above the lowest: one that has gone astray would
press all others into one row."""
_MIN_SPAN = 0.01
"""Nats; less is noise, and needs no chart to itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One curve."""

    mark: str
    """One character, drawn where the curve is."""
    points: Sequence[tuple[int, float]]
    """(step, loss in nats a character), by step; at least one."""
    style: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where curves are drawn."""

    n_steps: int
    """At the right edge."""
    width: int
    """Columns, with the labels."""
    height: int
    """Rows, without the axis below them."""
    is_ascii: bool = False
    """Whether the terminal has no other characters."""


def draw_chart(curves: Sequence[Curve], frame: Frame) -> list[Text]:
    """Draw curves over steps.

    Args:
        curves: the first one sets the scale. Where two meet the later one is seen; where two end,
            both are.
        frame: where.

    Returns:
        `frame.height` + 2 lines; none where there is nothing to see, or no room for it.
    """
    first = min((curve.points[0][0] for curve in curves), default=0)
    n_columns = frame.width - _LABEL - 1
    if not 0 < first < frame.n_steps or frame.height < MIN_ROWS or n_columns < 4 * _LABEL:
        return []
    plot = _Plot(first, frame.n_steps, n_columns, frame.height, curves)
    upright, tick, corner, flat, foot = "|++-+" if frame.is_ascii else "│┤└─┬"
    digits = 2 if plot.high - plot.low >= frame.height / 100 else 3
    labels = {
        row: (">" if row == 0 and plot.is_cut else "") + f"{plot.loss(row):.{digits}f}"
        for row in (0, frame.height // 2, frame.height - 1)
    }
    lines = [
        Text.assemble(
            (f"{labels.get(row, ''):>{_LABEL}}{tick if row in labels else upright}", "dim"),
            *plot.runs(row),
            no_wrap=True,
            overflow="crop",
        )
        for row in range(frame.height)
    ]
    axis, steps = [flat] * n_columns, [" "] * (_LABEL + 1 + n_columns)
    for column, label in _ticks(plot):
        axis[column] = foot
        # Below its tick, but for what would stand out at the edge.
        start = min(_LABEL + 1 + column - len(label) // 2, len(steps) - len(label))
        steps[start : start + len(label)] = label
    below = (" " * _LABEL + corner + "".join(axis), "".join(steps))
    return [*lines, *(Text(text, style="dim", no_wrap=True, overflow="crop") for text in below)]


class _Plot:
    """Characters by row and column, and what they stand for."""

    def __init__(
        self, first: int, n_steps: int, n_columns: int, n_rows: int, curves: Sequence[Curve]
    ) -> None:
        self.first, self.n_steps, self.n_columns, self._n_rows = first, n_steps, n_columns, n_rows
        losses = [loss for curve in curves for _, loss in curve.points]
        of_first = [loss for _, loss in curves[0].points]
        self.low = min(losses)
        span = max(_TOP * (max(of_first) - self.low), _MIN_SPAN)
        self.high = min(max(*losses, self.low + _MIN_SPAN), self.low + span)
        self.is_cut = max(losses) > self.high
        self._cells: dict[tuple[int, int], tuple[str, str]] = {}
        for curve in curves:
            for column, loss in self._columns(curve):
                self._cells[self._row(loss), column] = (curve.mark, curve.style)
        ends: set[tuple[int, int]] = set()
        for curve in curves:
            step, loss = curve.points[-1]
            row, column = self._row(loss), self.column(step)
            while (row, column) in ends and column + 1 < n_columns:
                column += 1
            ends.add((row, column))
            self._cells[row, column] = (curve.mark, f"{curve.style} bold".strip())

    def column(self, step: float) -> int:
        """Place a step."""
        share = math.log(step / self.first) / math.log(self.n_steps / self.first)
        return round(share * (self.n_columns - 1))

    def loss(self, row: int) -> float:
        """Say what a row stands for."""
        return self.high - (self.high - self.low) * row / (self._n_rows - 1)

    def runs(self, row: int) -> Iterator[tuple[str, str]]:
        """Give a row as texts of one style each."""
        cells = [self._cells.get((row, column), (" ", "")) for column in range(self.n_columns)]
        for style, run in groupby(cells, key=lambda cell: cell[1]):
            yield "".join(mark for mark, _ in run), style

    def _row(self, loss: float) -> int:
        share = (self.high - loss) / (self.high - self.low)
        return round(max(0.0, share) * (self._n_rows - 1))

    def _columns(self, curve: Curve) -> Iterator[tuple[int, float]]:
        """Give a curve's loss at each column that it reaches; straight between its points."""
        for (step, loss), (next_step, next_loss) in pairwise(curve.points):
            left, right = self.column(step), self.column(next_step)
            for column in range(left, right + 1):
                share = (column - left) / (right - left) if right > left else 1.0
                yield column, loss + share * (next_loss - loss)


def _ticks(plot: _Plot) -> Iterator[tuple[int, str]]:
    """Give the columns and labels of the last step, the first, and its doublings between them."""
    end = f"{plot.n_steps:,} steps"
    yield plot.n_columns - 1, end
    room = plot.n_columns - len(end)
    step = plot.first
    while (column := plot.column(step)) + len(f"{step:,}") < room:
        yield column, f"{step:,}"
        step *= 2
