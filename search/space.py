"""What is searched: a range or a fixed value for each hyperparameter."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsearch.errors import InputError
from mmsearch.model.spec import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """The values one hyperparameter may take, both ends included; fixed where they are equal."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios, not equal differences, are equally likely."""
    is_int: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return self.low == self.high

    def holds(self, value: float) -> bool:
        """Whether `value` can be proposed."""
        return self.low <= value <= self.high and (not self.is_int or value == int(value))

    def __str__(self) -> str:
        """Say it as a person would."""
        if self.is_fixed:
            return f"{self.low:g}"
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


DEFAULTS: Mapping[str, Dimension] = {
    "embedding_dim": Dimension(low=2, high=48, log=True, is_int=True),
    "hidden_width": Dimension(low=32, high=512, log=True, is_int=True),
    "block_size": Dimension(low=2, high=10, is_int=True),
    "learning_rate": Dimension(low=1e-2, high=1.0, log=True),
    "weight_decay": Dimension(low=0.0, high=0.0),
}
"""The space that a study searches where nothing else is said."""

_FIELDS = {"low", "high", "log"}


@dataclass(frozen=True, slots=True)
class Space:
    """A dimension for each hyperparameter, in the order in which Optuna is asked for them."""

    dimensions: Mapping[str, Dimension] = field(default_factory=lambda: dict(DEFAULTS))

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Space:
        """Read a `[space]` table: names to a number, or to `{low, high, log}`.

        What the table leaves out keeps its default.

        Raises:
            InputError: an unknown name, a range that cannot be sampled, or a wrong type.
        """
        unknown = sorted(set(table) - set(DEFAULTS))
        if unknown:
            raise InputError(
                f"[space] has no hyperparameter {unknown[0]!r}; it has {', '.join(DEFAULTS)}"
            )
        parsed = {name: _dimension(name, value) for name, value in table.items()}
        return cls({name: parsed.get(name, default) for name, default in DEFAULTS.items()})

    def to_json(self) -> dict[str, Any]:
        """Give the table that `parse` reads."""
        return {
            name: _number(dimension, dimension.low)
            if dimension.is_fixed
            else {
                "low": _number(dimension, dimension.low),
                "high": _number(dimension, dimension.high),
                "log": dimension.log,
            }
            for name, dimension in self.dimensions.items()
        }

    def check_point(self, point: Mapping[str, Any]) -> dict[str, float]:
        """Check an `[[enqueue]]` table, which may leave hyperparameters out for the sampler.

        Raises:
            InputError: an unknown name, or a value outside its range.
        """
        for name, value in point.items():
            if name not in self.dimensions:
                raise InputError(
                    f"[[enqueue]] has no hyperparameter {name!r}; it has {', '.join(DEFAULTS)}"
                )
            if not _is_number(value) or not self.dimensions[name].holds(value):
                raise InputError(
                    f"[[enqueue]] has {name} = {value!r}, outside of its range in [space] "
                    f"({self.dimensions[name]}); widen the range or change the value"
                )
        return {name: _number(self.dimensions[name], value) for name, value in point.items()}


def _dimension(name: str, value: Any) -> Dimension:
    """Read one entry of `[space]`."""
    default = DEFAULTS[name]
    where = f"[space] {name}"
    if _is_number(value):
        low = high = value
        log = False
    elif isinstance(value, dict):
        odd = sorted(set(value) - _FIELDS)
        if odd or not {"low", "high"} <= set(value):
            raise InputError(
                f"{where} takes a number or {{ low = ..., high = ..., log = true }}, got {value!r}"
            )
        low, high = value["low"], value["high"]
        log = value.get("log", default.log)
    else:
        raise InputError(f"{where} takes a number or a range, got {value!r}")
    if not (_is_number(low) and _is_number(high) and isinstance(log, bool)):
        raise InputError(f"{where} takes finite numbers and log = true or false, got {value!r}")
    if default.is_int and not (low == int(low) and high == int(high)):
        raise InputError(f"{where} takes whole numbers, got {value!r}")
    if low > high:
        raise InputError(f"{where} has low = {low} above high = {high}")
    if log and low <= 0:
        raise InputError(f"{where} is searched on a log scale, so low must be above 0, got {low}")
    if low < 0 or (low == 0 and name != "weight_decay"):
        raise InputError(f"{where} must stay above 0, got low = {low}")
    if default.is_int and high > MAX_SIZE:
        raise InputError(f"{where} must be at most {MAX_SIZE:,}, got {high:g}")
    return Dimension(low=low, high=high, log=log and low != high, is_int=default.is_int)


def _is_number(value: Any) -> bool:
    # Not math.isfinite, which raises for a whole number that is no float.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _number(dimension: Dimension, value: float) -> float:
    return int(value) if dimension.is_int else float(value)
