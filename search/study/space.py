"""The search space: a range, choices or a fixed value for each hyperparameter."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

from mmsearch.errors import InputError
from mmsearch.model.spec import CHOICES, MAX_SIZE
from mmsearch.search.study.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BATCH_SIZE = 10**6
"""Most examples per step; more would not fit into a worker's memory."""

MAX_VALUES = 10**6
"""Most values of a range with a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """The values that a hyperparameter may have in any space."""

    is_int: bool = False
    low: float = 0.0
    """Lowest value; excluded if `is_open`."""
    high: float = math.inf
    """Highest value."""
    is_open: bool = False
    """Whether `low` is excluded."""
    is_log: bool = False
    """Whether a range is searched on a log scale by default."""
    words: tuple[str, ...] = ()
    """Values of a categorical hyperparameter; empty for a numeric one."""


_SIZE = Kind(is_int=True, is_open=True, high=MAX_SIZE, is_log=True)
HYPERPARAMETERS: Mapping[str, Kind] = {
    "embedding_dim": _SIZE,
    "hidden_width": _SIZE,
    "block_size": Kind(is_int=True, is_open=True, high=MAX_SIZE),
    "learning_rate": Kind(is_open=True, is_log=True),
    "weight_decay": Kind(is_log=True),
    "context_noise": Kind(high=1.0),
}
"""The hyperparameters of every space, in the order in which they are sampled."""
TRAINING: Mapping[str, Kind] = {
    "batch_size": Kind(is_int=True, is_open=True, high=MAX_BATCH_SIZE),
    **{
        name: Kind(words=get_args(CHOICES[name]))
        for name in ("optimizer", "targets", "init", "schedule", "averaging")
    },
}
"""Keys of `[training]` that a space may search too, sampled after the hyperparameters."""
_KINDS = {**HYPERPARAMETERS, **TRAINING}
_FIELDS = {"low", "high", "log", "step"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A range of numbers, both ends included; a fixed value if they are equal."""

    low: float
    high: float
    log: bool = False
    """Whether it is searched on a log scale."""
    step: float | None = None
    """Distance between values, from `low` on; None for all floats, or all whole numbers."""
    is_int: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether it has only one value."""
        return self.low == self.high

    def holds(self, value: Any) -> bool:
        """Return whether a value is in the range."""
        return (
            _is_number(value)
            and self.low <= value <= self.high
            and (not self.is_int or value == int(value))
            and (self.step is None or not _remainder(value, self.low, self.step))
        )

    def cast(self, value: Any) -> Any:
        """Return a value of the range in the type that a trial uses."""
        return int(value) if self.is_int else float(value)

    def to_json(self) -> Any:
        """Return the entry that `Space.parse` reads."""
        if self.is_fixed:
            return self.cast(self.low)
        table = {"low": self.cast(self.low), "high": self.cast(self.high), "log": self.log}
        return table if self.step is None else {**table, "step": self.cast(self.step)}

    def __str__(self) -> str:
        """Format the range for a table."""
        if self.is_fixed:
            return f"{self.low:g}"
        step = "" if self.step is None else f", step {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}{', log' if self.log else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """Unordered values of a hyperparameter; a fixed value if there is only one."""

    values: tuple[Any, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether it has only one value."""
        return len(self.values) == 1

    @property
    def log(self) -> bool:
        """False: choices have no scale."""
        return False

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of the choices."""
        return not isinstance(value, bool) and value in self.values

    def cast(self, value: Any) -> Any:
        """Return the choice that equals a value."""
        return self.values[self.values.index(value)]

    def to_json(self) -> Any:
        """Return the entry that `Space.parse` reads."""
        return {"choices": list(self.values)}

    def __str__(self) -> str:
        """Format the choices for a table."""
        return listed(self.values)


Dimension = Range | Choices


@dataclass(frozen=True, slots=True)
class Space:
    """A dimension for each hyperparameter, in sampling order."""

    dimensions: Mapping[str, Dimension] = field(default_factory=lambda: dict(DEFAULTS))

    @classmethod
    def parse(cls, table: Mapping[str, Any], base: Mapping[str, Dimension] | None = None) -> Space:
        """Read a `[space]` table.

        Args:
            table: for each name a number, `{low, high, log, step}` or `{choices}`.
            base: dimensions for the names that the table lacks; None for the default recipe's.

        Raises:
            InputError: a name is unknown, or a range is invalid.
        """
        found = dict(DEFAULTS if base is None else base) | read_dimensions(table)
        return cls({name: found[name] for name in _KINDS if name in found})

    def to_json(self) -> dict[str, Any]:
        """Return the table that `parse` reads."""
        return {name: dimension.to_json() for name, dimension in self.dimensions.items()}

    def check_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Check an `[[enqueue]]` table; the sampler draws the hyperparameters that it lacks.

        Raises:
            InputError: a name is unknown, or a value is out of range.
        """
        for name, value in point.items():
            if name not in self.dimensions:
                raise InputError(
                    f"[[enqueue]] has no hyperparameter {name!r}; it has "
                    f"{', '.join(self.dimensions)}"
                )
            if not self.dimensions[name].holds(value):
                raise InputError(
                    f"[[enqueue]] has {name} = {value!r}, outside of its range in [space] "
                    f"({self.dimensions[name]}); widen the range or change the value"
                )
        return {name: self.dimensions[name].cast(value) for name, value in point.items()}

    def held(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a point that are searched here and in range."""
        return {
            name: self.dimensions[name].cast(value)
            for name, value in point.items()
            if name in self.dimensions
            and not self.dimensions[name].is_fixed
            and self.dimensions[name].holds(value)
        }


def read_dimensions(table: Mapping[str, Any]) -> dict[str, Dimension]:
    """Read the entries of a `[space]` table.

    Raises:
        InputError: a name is unknown, or a range is invalid.
    """
    if unknown := sorted(set(table) - set(_KINDS)):
        raise InputError(f"[space] has no hyperparameter {unknown[0]!r}; it has {listed(_KINDS)}")
    return {name: _dimension(name, value) for name, value in table.items()}


def listed(values: Any) -> str:
    """Join values with commas."""
    return ", ".join(map(str, values))


def _dimension(name: str, value: Any) -> Dimension:
    """Read one entry of `[space]`."""
    where, kind = f"[space] {name}", _KINDS[name]
    if isinstance(value, dict) and set(value) == {"choices"}:
        return _choices(where, kind, value["choices"])
    if kind.words:
        fixed = f"; one value for all trials stands under [training]: {name} = {value!r}"
        raise InputError(
            f"{where} takes {{ choices = [...] }}, got {value!r}"
            f"{fixed if isinstance(value, str) else ''}"
        )
    if _is_number(value):
        return _range(where, kind, {"low": value, "high": value, "log": False}, value)
    if not isinstance(value, dict):
        raise InputError(f"{where} takes a number or a range, got {value!r}")
    if set(value) - _FIELDS or not {"low", "high"} <= set(value):
        raise InputError(
            f"{where} takes a number or {{ low = ..., high = ..., log = true }}, with step = ... "
            f"instead of log, or {{ choices = [...] }}, got {value!r}"
        )
    return _range(where, kind, value, value)


def _choices(where: str, kind: Kind, values: Any) -> Choices:
    if not isinstance(values, list) or not values:
        raise InputError(f"{where} takes a list of choices, [...], got {values!r}")
    for value in values:
        if kind.words:
            if value not in kind.words:
                raise InputError(f"{where} takes choices of {listed(kind.words)}, got {value!r}")
        elif not _is_number(value):
            raise InputError(f"{where} takes finite numbers as choices, got {value!r}")
        else:
            _check_number(where, kind, value)
    if not kind.words:
        values = [int(value) if kind.is_int else float(value) for value in values]
    if len(set(values)) < len(values):
        raise InputError(f"{where} has a choice twice: {values!r}")
    return Choices(values=tuple(values))


def _range(where: str, kind: Kind, table: Mapping[str, Any], got: Any) -> Range:
    low, high, step = table["low"], table["high"], table.get("step")
    if not (_is_number(low) and _is_number(high) and (step is None or _is_number(step))):
        raise InputError(f"{where} takes finite numbers and log = true or false, got {got!r}")
    # 0 has no logarithm, so a range from 0 is searched on a linear scale by default.
    log = table.get("log", kind.is_log and step is None and (low > 0 or kind.is_open))
    if not isinstance(log, bool):
        raise InputError(f"{where} takes finite numbers and log = true or false, got {got!r}")
    if kind.is_int and not all(n == int(n) for n in (low, high, step or 0)):
        raise InputError(f"{where} takes whole numbers, got {got!r}")
    if low > high:
        raise InputError(f"{where} has low = {low} above high = {high}")
    if log and low <= 0:
        raise InputError(f"{where} is searched on a log scale, so low must be above 0, got {low}")
    for number in (low, high):
        _check_number(where, kind, number)
    if step is not None:
        _check_step(where, low, high, step, log=log)
    is_fixed = low == high
    return Range(
        low=low,
        high=high,
        log=log and not is_fixed,
        step=None if is_fixed else step,
        is_int=kind.is_int,
    )


def _check_number(where: str, kind: Kind, number: float) -> None:
    if kind.is_int and number != int(number):
        raise InputError(f"{where} takes whole numbers, got {number!r}")
    if number < kind.low or (kind.is_open and number == kind.low):
        rule = f"above {kind.low:g}" if kind.is_open else f"{kind.low:g} or more"
        raise InputError(f"{where} must be {rule}, got {number}")
    if number > kind.high:
        raise InputError(f"{where} must be at most {kind.high:,}, got {number:g}")


def _check_step(where: str, low: float, high: float, step: float, *, log: bool) -> None:
    if step <= 0:
        raise InputError(f"{where} must have a step above 0, got {step}")
    if log:
        raise InputError(
            f"{where} has a step, which cannot be used on a log scale; leave out step or write "
            "log = false"
        )
    if (high - low) / step > MAX_VALUES:
        raise InputError(f"{where} has more than {MAX_VALUES:,} values in steps of {step}")
    if rest := _remainder(high, low, step):
        raise InputError(
            f"{where} does not reach high = {high} from low = {low} in steps of {step}; write "
            f"high = {Decimal(str(high)) - rest}"
        )


def _remainder(value: float, low: float, step: float) -> Decimal:
    """Return how far a value is above the next lower step, in exact decimals."""
    return (Decimal(str(value)) - Decimal(str(low))) % Decimal(str(step))


def _is_number(value: Any) -> bool:
    # math.isfinite raises for a whole number beyond the largest float.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


DEFAULTS: Mapping[str, Dimension] = read_dimensions(RECIPES["default"].space)
"""The space of the default recipe."""
