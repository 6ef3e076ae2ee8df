"""Tables on a terminal, with as many columns as fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmsearch.model.spec import TrialSpec
    from mmsearch.tracking.hyperparameters import Column

WIDTH = 80
"""Columns of a usual terminal."""
_GAP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TableColumn:
    """A column of texts."""

    heading: str
    cells: Sequence[str]
    is_left: bool = False
    """Whether it is aligned to the left."""
    rank: int = 0
    """0 for a column that is always shown; the others are left out, the highest first, where they
    do not fit."""

    @property
    def width(self) -> int:
        """Characters of its longest text."""
        return max(map(len, (self.heading, *self.cells)))


def spec_columns(columns: Iterable[Column], specs: Sequence[TrialSpec]) -> list[TableColumn]:
    """Return the columns of some trials' hyperparameters."""
    return [
        TableColumn(
            heading=column.heading,
            cells=[column.text(spec) for spec in specs],
            rank=0 if column.is_hyperparameter else 2,
        )
        for column in columns
    ]


def fitted_table(columns: Sequence[TableColumn], styles: Sequence[str | None]) -> Table:
    """Lay columns side by side in `WIDTH`, with a style for each row."""
    chosen = {index for index, column in enumerate(columns) if not column.rank}
    for index in sorted(range(len(columns)), key=lambda index: (columns[index].rank, index)):
        trial = chosen | {index}
        if sum(columns[each].width for each in trial) + _GAP * (len(trial) - 1) <= WIDTH:
            chosen = trial
    kept = [columns[index] for index in sorted(chosen)]
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for column in kept:
        table.add_column(
            column.heading, justify="left" if column.is_left else "right", no_wrap=True
        )
    for row, style in enumerate(styles):
        table.add_row(*(column.cells[row] for column in kept), style=style)
    return table
