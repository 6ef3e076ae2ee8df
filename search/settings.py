"""What a study is fixed to when it starts, from flags and a TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mmsearch.errors import InputError
from mmsearch.model.spec import Averaging, Init, Schedule, TrialSpec
from mmsearch.search.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_STEPS = 10**9
"""SGD steps of a trial: days on a core."""
MAX_BATCH_SIZE = 10**6
"""Examples a step: more takes more memory than a worker has."""
Sampler = Literal["tpe", "gp", "cmaes", "random"]
Pruner = Literal["halving", "median", "hyperband", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that a study's results follow from, besides its words.

    Raises:
        InputError: a value is of the wrong type or outside its range.
    """

    keep_duplicates: bool = False
    """Keep repeated words, as the article does."""
    split_seed: int = 42
    """Of the 80/10/10 shuffle."""
    steps: int = 60_000
    """SGD steps a trial."""
    segments: int = 20
    """Dev evaluations a trial."""
    batch_size: int = 32
    """Examples a step."""
    init: Init = "scaled"
    schedule: Schedule = "constant"
    averaging: Averaging = "polynomial"
    sampler: Sampler = "tpe"
    pruner: Pruner = "halving"
    seed: int = 0
    """Of the proposals and of every trial's training."""
    space: Space = field(default_factory=Space)

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_args(kind) and value not in get_args(kind):
                raise InputError(f"{name} must be one of {_listed(kind)}, got {value!r}")
            if kind in {int, bool} and type(value) is not kind:
                raise InputError(f"{name} must be {_KINDS[kind]}, got {value!r}")
        limits = {
            "split_seed": (0, math.inf),
            "seed": (0, math.inf),
            "steps": (1, MAX_STEPS),
            "batch_size": (1, MAX_BATCH_SIZE),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value < least:
                rule = f"at least {least}" if least else "0 or more"
                raise InputError(f"{name} must be {rule}, got {value}")
            if value > most:
                raise InputError(f"{name} must be at most {most:,}, got {value}")
        if not 1 <= self.segments <= self.steps:
            raise InputError(
                f"segments must be between 1 and steps ({self.steps}), got {self.segments}"
            )

    def to_json(self) -> dict[str, Any]:
        """Give the settings as JSON values, `space` as its table."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"space": self.space.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Read back what `to_json` gave.

        Raises:
            InputError: a setting is missing, unknown, or not of this version.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if set(values) != names or not isinstance(values["space"], dict):
            odd = ", ".join(sorted(set(values) ^ names)) or "space"
            raise InputError(f"its settings are not of this version of mmsearch: {odd}")
        return cls(**{**values, "space": Space.parse(values["space"])})

    def trial_spec(self, point: Mapping[str, Any], seed: int) -> TrialSpec:
        """Give one trial its hyperparameters, its seed and this study's budget."""
        return TrialSpec(
            **point,
            seed=seed,
            n_steps=self.steps,
            n_segments=self.segments,
            batch_size=self.batch_size,
            init=self.init,
            schedule=self.schedule,
            averaging=self.averaging,
        )


@dataclass(frozen=True, slots=True)
class Config:
    """What a TOML file says."""

    settings: Mapping[str, Any]
    """Given settings alone, by their names."""
    enqueue: tuple[Mapping[str, Any], ...] = ()
    """Configurations to try first."""


TABLES: Mapping[str, tuple[str, ...]] = {
    "corpus": ("keep_duplicates", "split_seed"),
    "training": ("steps", "segments", "batch_size", "init", "schedule", "averaging"),
    "search": ("sampler", "pruner", "seed"),
}
"""The tables of a config file besides `[space]` and `[[enqueue]]`, and their keys."""


def read_config(path: Path) -> Config:
    """Read a config file.

    Raises:
        InputError: it cannot be read, is not TOML, or has an unknown table or key.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        repr(tables)  # Python refuses to print very long numbers: better here than in a message
    except OSError as error:
        raise InputError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML's and Unicode's; and a number is too long for Python
        raise InputError(f"config {str(path)!r} is not TOML: {error}") from error
    except RecursionError as error:
        raise InputError(f"config {str(path)!r} is nested too deeply") from error
    try:
        return _parse_config(tables)
    except InputError as error:
        raise InputError(f"config {str(path)!r}: {error}") from error


def _parse_config(tables: Mapping[str, Any]) -> Config:
    known = [*TABLES, "space", "enqueue"]
    given: dict[str, Any] = {}
    for name, table in tables.items():
        if name not in known:
            raise InputError(f"no table [{name}]; there are {', '.join(known)}")
        if name == "enqueue":
            continue
        if not isinstance(table, dict):
            raise InputError(f"{name} must be a table, [{name}], got {table!r}")
        if name == "space":
            given["space"] = Space.parse(table)
            continue
        for key, value in table.items():
            if key not in TABLES[name]:
                raise InputError(f"[{name}] has no {key!r}; it has {', '.join(TABLES[name])}")
            given[key] = value
    enqueue = tables.get("enqueue", [])
    if not isinstance(enqueue, list) or not all(isinstance(point, dict) for point in enqueue):
        raise InputError("enqueue must be tables, [[enqueue]]")
    Settings(**given)
    return Config(given, tuple(enqueue))


def differences(stored: Settings, given: Mapping[str, Any]) -> list[str]:
    """Say how given settings differ from a study's stored ones; into the space, one by one.

    Raises:
        InputError: a given value is wrong.
    """
    return _differences(stored.to_json(), dataclasses.replace(stored, **given).to_json())


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say each difference; into the space, one a hyperparameter."""
    found = []
    for name, value in after.items():
        if name == "space":
            found += _differences(before[name], value)
        elif before[name] != value:
            found.append(f"{name} is {_shown(before[name])}, not {_shown(value)}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['low']} to {value['high']}{', log' if value['log'] else ''}"
    return f"{value}"


_KINDS = {int: "a whole number", bool: "true or false"}


def _listed(kind: Any) -> str:
    return ", ".join(get_args(kind))
