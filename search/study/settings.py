"""What a study is fixed to when it starts, from flags and a TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mmsearch.errors import InputError
from mmsearch.model.spec import (
    Averaging,
    Evaluations,
    Init,
    Optimizer,
    Schedule,
    Targets,
    TrialSpec,
)
from mmsearch.search.study.recipes import RANGES, RECIPES, start_point
from mmsearch.search.study.space import (
    HYPERPARAMETERS,
    MAX_BATCH_SIZE,
    Space,
    listed,
    read_dimensions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_STEPS = 10**9
"""Planned steps of a trial: days on a core."""
Sampler = Literal["tpe", "gp", "random"]
Pruner = Literal["halving", "median", "hyperband", "none"]

_DEFAULT = RECIPES["default"].settings
_OF_SPEC = {
    field.name: field.default
    for field in dataclasses.fields(TrialSpec)
    if field.default is not dataclasses.MISSING
}
_LATER: Mapping[str, Any] = {
    **{name: value for name, value in _OF_SPEC.items() if name not in HYPERPARAMETERS},
    "start": False,
}
"""Settings that came after version 0.1, each with the value that means what that version did."""
_LATER_IN_SPACE = {name: value for name, value in _OF_SPEC.items() if name in HYPERPARAMETERS}
"""Hyperparameters that came after version 0.1, likewise."""
_LIMITS: Mapping[str, tuple[float, float]] = {
    "split_seed": (0, math.inf),
    "seed": (0, math.inf),
    "steps": (1, MAX_STEPS),
    "batch_size": (1, MAX_BATCH_SIZE),
    "patience": (0, math.inf),
    "extend_to": (1, 1000),
    "cut_at": (0, 1),
    "cut_factor": (0, 1),
}
"""The lowest and the highest value of settings that are numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that a study's results follow from, besides its words.

    Raises:
        InputError: a value is of the wrong type or outside its range.
    """

    keep_duplicates: bool = False
    """Keep repeated words, as the article does."""
    split_seed: int = 42
    """Seed of the 80/10/10 shuffle."""
    steps: int = _DEFAULT["steps"]
    """Planned optimizer steps of a trial."""
    segments: int = _DEFAULT["segments"]
    """Dev evaluations within the planned steps."""
    batch_size: int = _DEFAULT["batch_size"]
    """Examples or contexts drawn a step."""
    optimizer: Optimizer = _DEFAULT["optimizer"]
    targets: Targets = _DEFAULT["targets"]
    init: Init = _DEFAULT["init"]
    schedule: Schedule = _DEFAULT["schedule"]
    cut_at: float = _DEFAULT["cut_at"]
    """Share of the planned steps before the cut of schedule `step`."""
    cut_factor: float = _DEFAULT["cut_factor"]
    """What that cut multiplies the learning rate with."""
    averaging: Averaging = _DEFAULT["averaging"]
    evaluations: Evaluations = _DEFAULT["evaluations"]
    patience: int = _DEFAULT["patience"]
    """Dev evaluations without an improvement after which a trial ends; 0 for never."""
    extend_to: float = _DEFAULT["extend_to"]
    """How many times the planned steps a trial may take while its dev loss improves."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "halving"
    seed: int = 0
    """Seed of the proposals and of every trial's training."""
    start: bool = _DEFAULT["start"]
    """Whether a known-good point is tried before the sampler's."""
    space: Space = field(default_factory=Space)

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if name != "space":
                check_setting(name, getattr(self, name))
            if kind is float:
                object.__setattr__(self, name, float(getattr(self, name)))
        if not 1 <= self.segments <= self.steps:
            raise InputError(
                f"segments must be between 1 and steps ({self.steps}), got {self.segments}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, `space` as its table."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"space": self.space.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Read back what `to_json` gave, in this version or an earlier one.

        Raises:
            InputError: a setting is missing, unknown, or not of this version.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        values = {**_LATER, **values}
        if values.get("sampler") == "cmaes":  # of version 0.1 and 0.2; see docs/adr/0011
            values["sampler"] = "tpe"
        if unknown := sorted(set(values) - names):
            raise InputError(
                f"its settings have {unknown[0]!r}, which this version of mmsearch does not know; "
                "use the version that wrote it"
            )
        if set(values) != names or not isinstance(values["space"], dict):
            odd = ", ".join(sorted(names - set(values))) or "space"
            raise InputError(f"its settings lack what every version has: {odd}")
        space = Space.parse({**_LATER_IN_SPACE, **values["space"]}, {})
        if missing := listed(name for name in HYPERPARAMETERS if name not in space.dimensions):
            raise InputError(f"its [space] is not of this version of mmsearch: {missing}")
        return cls(**{**values, "space": space})

    def trial_spec(self, point: Mapping[str, Any], seed: int) -> TrialSpec:
        """Return one trial's spec: its point and its seed, and for the rest this study's recipe.

        Args:
            point: hyperparameters, and what else is searched.
            seed: of its training.
        """
        recipe = {
            "batch_size": self.batch_size,
            "init": self.init,
            "schedule": self.schedule,
            "averaging": self.averaging,
            **{name: getattr(self, name) for name in _LATER if name != "start"},
        }
        values = {**recipe, **point}
        return TrialSpec(**values, seed=seed, n_steps=self.steps, n_segments=self.segments)

    def start_points(self, n_words: int) -> list[dict[str, Any]]:
        """Return what a search tries before the sampler's proposals, as far as its space has it.

        Args:
            n_words: words of the train split.
        """
        point = self.space.held(start_point(n_words)) if self.start else {}
        return [point] if point else []


def check_setting(name: str, value: Any) -> None:
    """Check one setting besides the space.

    Raises:
        InputError: it is of the wrong type or outside its range.
    """
    kind = get_type_hints(Settings)[name]
    if get_args(kind):
        if value not in get_args(kind):
            raise InputError(f"{name} must be one of {listed(get_args(kind))}, got {value!r}")
        return
    # bool is an int to Python, and TOML has numbers too large for a float.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number if kind is float else type(value) is not kind:
        raise InputError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    least, most = _LIMITS.get(name, (-math.inf, math.inf))
    if value < least:
        rule = f"at least {least}" if least else "0 or more"
        raise InputError(f"{name} must be {rule}, got {value}")
    if not value <= most:  # NaN is not below anything
        raise InputError(f"{name} must be at most {most:,}, got {value}")


def settle(given: Mapping[str, Any], stored: Settings | None = None) -> Settings:
    """Return the settings of a study, where some are given.

    Args:
        given: settings by their names. `space` is a table as in a config file, and need not name
            every hyperparameter; `recipe` stands for all settings of that recipe, of which the
            others that are given are exceptions.
        stored: those of the study that is gone on with; None for a new one.

    Raises:
        InputError: a value is wrong, or a recipe has no range for what is searched.
    """
    for name, value in given.items():
        if name not in {"recipe", "space"}:
            check_setting(name, value)
    if stored is None or "recipe" in given:
        given = _of_recipe(given)
    changes = {name: value for name, value in given.items() if name not in {"recipe", "space"}}
    base = stored or Settings()
    dimensions = base.space.dimensions if stored else {}
    return dataclasses.replace(
        base, **changes, space=Space.parse(given.get("space", {}), dimensions)
    )


def _of_recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return given settings together with those of their recipe."""
    name = given.get("recipe", "default")
    if not isinstance(name, str) or name not in RECIPES:
        raise InputError(f"recipe must be one of {listed(RECIPES)}, got {name!r}")
    recipe, table = RECIPES[name], given.get("space", {})
    values = {**recipe.settings, **given}
    ranges = RANGES[values["optimizer"]]
    if values["optimizer"] == recipe.settings["optimizer"]:
        ranges = {}
    if "optimizer" in table:
        for name in ("learning_rate", "weight_decay"):
            if name not in table:
                raise InputError(
                    f"[space] searches the optimizer, and the default range of {name} depends on "
                    f"it; write one that is right for all of them, such as {name} = "
                    "{ low = ..., high = ..., log = true }"
                )
    return {**values, "space": {**recipe.space, **ranges, **table}}


@dataclass(frozen=True, slots=True)
class Config:
    """What a TOML file says."""

    settings: Mapping[str, Any]
    """Given settings alone, by their names, as `settle` takes them."""
    enqueue: tuple[Mapping[str, Any], ...] = ()
    """Configurations to try first."""


TABLES: Mapping[str, tuple[str, ...]] = {
    "corpus": ("keep_duplicates", "split_seed"),
    "training": (
        "steps",
        "segments",
        "batch_size",
        "optimizer",
        "targets",
        "init",
        "schedule",
        "cut_at",
        "cut_factor",
        "averaging",
        "evaluations",
        "patience",
        "extend_to",
    ),
    "search": ("sampler", "pruner", "seed", "start"),
}
"""The tables of a config file besides `[space]` and `[[enqueue]]`, and their keys; `[training]`
takes `recipe` as well."""


def read_config(
    path: Path, flags: Mapping[str, Any] | None = None, stored: Settings | None = None
) -> Config:
    """Read a config file.

    Args:
        path: of the file.
        flags: settings that win over the file's; the two are checked together.
        stored: settings of the study that is gone on with; None for a new one.

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
        config = _parse_config(tables)
        settle({**config.settings, **(flags or {})}, stored)
    except InputError as error:
        raise InputError(f"config {str(path)!r}: {error}") from error
    return config


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
            read_dimensions(table)
            given["space"] = table
            continue
        keys = (*TABLES[name], "recipe") if name == "training" else TABLES[name]
        for key, value in table.items():
            if key not in keys:
                raise InputError(f"[{name}] has no {key!r}; it has {', '.join(keys)}")
            given[key] = value
    enqueue = tables.get("enqueue", [])
    if not isinstance(enqueue, list) or not all(isinstance(point, dict) for point in enqueue):
        raise InputError("enqueue must be tables, [[enqueue]]")
    return Config(given, tuple(enqueue))


def differences(stored: Settings, now: Settings) -> list[str]:
    """Say how settings differ from a study's stored ones; into the space, one by one."""
    before, after = stored.to_json(), now.to_json()
    spaces = before.pop("space"), after.pop("space")
    found = _differences(before, after)
    # What was not searched had the value of its setting.
    return found + _differences({**before, **spaces[0]}, spaces[1])


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {_shown(before[name])}, not {_shown(value)}"
        for name, value in after.items()
        if before[name] != value
    ]


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value}"
    if "choices" in value:
        return f"one of {listed(value['choices'])}"
    step = f", step {value['step']}" if "step" in value else ""
    return f"{value['low']} to {value['high']}{step}{', log' if value['log'] else ''}"


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
