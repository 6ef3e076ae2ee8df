"""Tables for a terminal of 80 columns, which are printed whole on a narrower one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mmsearch.tracking.hyperparameters import shown_columns

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mmsearch.model.spec import TrialSpec

WIDTH = 80
"""Columns of a usual terminal."""
_GAP = 2


def make_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str | None] | None = None,
    *,
    left: Container[str] = (),
) -> Text:
    """Make a table without borders and trailing blanks.

    Args:
        headings: of the columns.
        rows: the cells of each row.
        styles: a rich style for each row; None for none.
        left: headings of the columns that are aligned to the left; the others are to the right.
    """
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    lines = []
    for cells, style in zip(
        (headings, *rows), ("bold", *(styles or [None] * len(rows))), strict=True
    ):
        line = (" " * _GAP).join(
            f"{cell:<{width}}" if heading in left else f"{cell:>{width}}"
            for heading, cell, width in zip(headings, cells, widths, strict=True)
        )
        lines.append(Text(line.rstrip(), style or ""))
    return Text("\n").join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableColumn:
    """A column that may be left out if the table is too wide."""

    heading: str
    cells: Sequence[str]
    rank: int = 0
    """0 for a column that is always shown; of the others, the highest is left out first."""

    @property
    def width(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, (self.heading, *self.cells)))


def spec_columns(specs: Sequence[TrialSpec]) -> list[TableColumn]:
    """Return the columns of some trials' hyperparameters."""
    return [
        TableColumn(
            heading=column.heading,
            cells=[column.text(spec) for spec in specs],
            rank=0 if column.is_hyperparameter else 2,
        )
        for column in shown_columns(specs)
    ]


def fitted_table(
    columns: Sequence[TableColumn], styles: Sequence[str | None], *, left: Container[str] = ()
) -> Text:
    """Make a table of the columns that fit in `WIDTH`.

    Args:
        columns: all columns, in order; each has as many cells as there are styles.
        styles: a rich style for each row.
        left: headings of the columns that are aligned to the left.
    """
    chosen = {index for index, column in enumerate(columns) if not column.rank}
    for index in sorted(range(len(columns)), key=lambda index: (columns[index].rank, index)):
        wider = chosen | {index}
        if sum(columns[i].width for i in wider) + _GAP * (len(wider) - 1) <= WIDTH:
            chosen = wider
    kept = [columns[index] for index in sorted(chosen)]
    rows = [[column.cells[row] for column in kept] for row in range(len(styles))]
    return make_table([column.heading for column in kept], rows, styles, left=left)
