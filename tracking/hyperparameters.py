"""The list of hyperparameters, from which every table, note and chart takes its columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.model.spec import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One field of a trial's spec, as a column."""

    name: str
    """Name of the field, in Optuna and MLflow too."""
    heading: str
    """Heading in a narrow table."""
    digits: int = 2
    """Significant digits of a float in a narrow table."""
    is_always_shown: bool = False
    """Whether the column is shown even where all trials are equal."""
    is_hyperparameter: bool = True
    """Whether every space has it; otherwise it is a key of `[training]` that a space may search."""

    def value(self, spec: TrialSpec) -> Any:
        """Return the value of a trial."""
        return getattr(spec, self.name)

    def text(self, spec: TrialSpec, digits: int | None = None) -> str:
        """Format the value of a trial, with `digits` significant digits or as short as possible."""
        value = self.value(spec)
        if not isinstance(value, float):
            return f"{value}"
        return _short(value, self.digits) if digits is None else f"{value:.{digits}g}"


_TRAINING = {
    "batch_size": "batch",
    "optimizer": "optimizer",
    "targets": "targets",
    "init": "init",
    "schedule": "schedule",
    "averaging": "averaging",
}
COLUMNS = (
    Column(name="embedding_dim", heading="emb", is_always_shown=True),
    Column(name="hidden_width", heading="hidden", is_always_shown=True),
    Column(name="block_size", heading="block", is_always_shown=True),
    Column(name="learning_rate", heading="lr", digits=3, is_always_shown=True),
    Column(name="weight_decay", heading="wd"),
    Column(name="context_noise", heading="noise"),
    *(Column(name=n, heading=h, is_hyperparameter=False) for n, h in _TRAINING.items()),
)
"""All columns, in the order of every table."""
HYPERPARAMETERS = tuple(column.name for column in COLUMNS if column.is_hyperparameter)
"""Names of the hyperparameters that every space has."""
ALWAYS_SHOWN = tuple(column.name for column in COLUMNS if column.is_always_shown)
"""Names of the hyperparameters that every table shows."""


def _short(value: float, digits: int) -> str:
    """Format a number, by its power of ten where that is shorter."""
    plain = f"{value:.{digits}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return min(plain, f"{mantissa}e{int(exponent)}", key=len)


def shown_columns(specs: Sequence[TrialSpec]) -> list[Column]:
    """Return the columns that are always shown and those in which trials differ.

    For a single trial, these are its hyperparameters that are not 0.
    """

    def is_shown(column: Column) -> bool:
        values = {column.value(spec) for spec in specs}
        if len(values) == 1 == len(specs):
            return column.is_hyperparameter and bool(next(iter(values)))
        return len(values) > 1

    return [column for column in COLUMNS if column.is_always_shown or is_shown(column)]
