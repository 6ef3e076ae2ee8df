"""Tables for a terminal of 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from mmsearch.tracking.hyperparameters import shown_columns

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mmsearch.model.spec import TrialSpec

WIDTH = 80
"""Columns of a usual terminal."""
_GAP = 2


def make_table(headings: Sequence[str], *, left: Container[str] = ()) -> Table:
    """Return a borderless table; columns are right-aligned except those in `left`."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    return table


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
) -> Table:
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
    table = make_table([column.heading for column in kept], left=left)
    for row, style in enumerate(styles):
        table.add_row(*(column.cells[row] for column in kept), style=style)
    return table
