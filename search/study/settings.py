"""A study's settings: their defaults and limits; fixed when the study starts."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mmsearch.counts import counted
from mmsearch.data.corpus import BOUNDARY
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
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_STEPS = 10**9
"""Most planned steps of a trial, which take days on a core."""
MAX_LANES = 1024
"""Most trials at once."""
READING = ("keep_duplicates", "column", "lower", "boundary")
"""Settings that say how the corpus is read."""
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
    "column": "",
    "lower": False,
    "boundary": BOUNDARY,
    "start": False,
    "training_seed": -1,
    "lanes": 4,
}
"""Settings added after version 0.1, each with the value that behaves as that version did."""
_LATER_IN_SPACE = {name: value for name, value in _OF_SPEC.items() if name in HYPERPARAMETERS}
"""Hyperparameters added after version 0.1, each with the value that behaves as that version did."""
_LIMITS: Mapping[str, tuple[float, float]] = {
    "split_seed": (0, math.inf),
    "seed": (0, math.inf),
    "training_seed": (-1, math.inf),
    "lanes": (1, MAX_LANES),
    "steps": (1, MAX_STEPS),
    "segments": (1, MAX_STEPS),
    "batch_size": (1, MAX_BATCH_SIZE),
    "patience": (0, math.inf),
    "extend_to": (1, 1000),
    "cut_at": (0, 1),
    "cut_factor": (0, 1),
}
"""Lowest and highest value of numeric settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that determines a study's results, besides its words.

    Raises:
        InputError: a value has the wrong type or is out of range.
    """

    keep_duplicates: bool = False
    """Whether repeated words are kept, as in makemore."""
    column: str = ""
    """Column of a table that has the words; empty for a list of words."""
    lower: bool = False
    """Whether the case of all words is lowered."""
    boundary: str = BOUNDARY
    """Character that marks the start and end of a word."""
    split_seed: int = 42
    """Seed of the 80/10/10 shuffle."""
    steps: int = _DEFAULT["steps"]
    """Planned optimizer steps per trial."""
    segments: int = _DEFAULT["segments"]
    """Number of dev evaluations within the planned steps."""
    batch_size: int = _DEFAULT["batch_size"]
    """Examples or contexts per step."""
    optimizer: Optimizer = _DEFAULT["optimizer"]
    targets: Targets = _DEFAULT["targets"]
    init: Init = _DEFAULT["init"]
    schedule: Schedule = _DEFAULT["schedule"]
    cut_at: float = _DEFAULT["cut_at"]
    """Share of the planned steps before the schedule `step` cuts the learning rate."""
    cut_factor: float = _DEFAULT["cut_factor"]
    """Factor by which that cut multiplies the learning rate."""
    averaging: Averaging = _DEFAULT["averaging"]
    evaluations: Evaluations = _DEFAULT["evaluations"]
    patience: int = _DEFAULT["patience"]
    """Dev evaluations without improvement after which a trial ends; 0 for never."""
    extend_to: float = _DEFAULT["extend_to"]
    """Multiple of the planned steps up to which a trial continues while its dev loss improves."""
    training_seed: int = -1
    """Seed of every trial's training; -1 for one of its own from `seed` and the trial's number."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "halving"
    seed: int = 0
    """Seed of the sampler and, unless `training_seed` fixes it, of every trial's training."""
    lanes: int = 4
    """Trials that run at once in virtual time, whatever the number of workers."""
    start: bool = _DEFAULT["start"]
    """Whether a known good configuration is tried before the sampler's."""
    space: Space = field(default_factory=Space)

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            if name != "space":
                check_setting(name, getattr(self, name))
            if kind is float:
                object.__setattr__(self, name, float(getattr(self, name)))
        if not 1 <= self.segments <= self.steps:
            raise InputError(
                f"segments must be between 1 and steps ({self.steps}), got {self.segments}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"space": self.space.to_json()}

    @property
    def reading(self) -> dict[str, Any]:
        """How the corpus is read: the keyword arguments of `read_corpus`."""
        return {name: getattr(self, name) for name in READING}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings that `to_json` of this or an earlier version wrote.

        Raises:
            InputError: a setting is missing, unknown or invalid.
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
            raise InputError(f"its settings lack {odd}")
        space = Space.parse({**_LATER_IN_SPACE, **values["space"]}, {})
        if missing := listed(name for name in HYPERPARAMETERS if name not in space.dimensions):
            raise InputError(f"its [space] lacks {missing}")
        return cls(**{**values, "space": space})

    def trial_spec(self, point: Mapping[str, Any], seed: int) -> TrialSpec:
        """Return the spec of one trial.

        Args:
            point: values of everything that is searched, by name.
            seed: seed of the training.
        """
        recipe = {
            "batch_size": self.batch_size,
            "init": self.init,
            "schedule": self.schedule,
            "averaging": self.averaging,
            **{name: getattr(self, name) for name in _OF_SPEC if name not in HYPERPARAMETERS},
        }
        values = {**recipe, **point}
        return TrialSpec(**values, seed=seed, n_steps=self.steps, n_segments=self.segments)

    def start_points(self, n_words: int) -> list[dict[str, Any]]:
        """Return the configurations to try before the sampler's proposals, within the space.

        Args:
            n_words: number of train words.
        """
        point = self.space.held(start_point(n_words)) if self.start else {}
        return [point] if point else []


@cache
def _kinds() -> Mapping[str, Any]:
    """Return the type of each setting."""
    return get_type_hints(Settings)


def check_setting(name: str, value: Any) -> None:
    """Check one setting other than `space`.

    Raises:
        InputError: it has the wrong type or is out of range.
    """
    kind = _kinds()[name]
    if get_args(kind):
        if value not in get_args(kind):
            raise InputError(f"{name} must be one of {listed(get_args(kind))}, got {value!r}")
        return
    # bool is an int to Python, and TOML has numbers too large for a float.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number if kind is float else type(value) is not kind:
        raise InputError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    if isinstance(value, str):
        is_sign = len(value) == 1 and not value.isspace()
        if not value.isprintable() or (name == "boundary" and not is_sign):
            kind_of_text = "one printable character" if name == "boundary" else "a line of text"
            raise InputError(f"{name} must be {kind_of_text}, got {value!r}")
        return
    least, most = _LIMITS.get(name, (-math.inf, math.inf))
    if value < least:
        rule = f"at least {least}" if least else "0 or more"
        raise InputError(f"{name} must be {rule}, got {value}")
    if not value <= most:  # NaN is not below anything
        raise InputError(f"{name} must be at most {most:,}, got {value}")


def settle(given: Mapping[str, Any], stored: Settings | None = None) -> Settings:
    """Complete the given settings with defaults, or with those of an existing study.

    Args:
        given: settings by name. `space` is a table as in a config file and may be incomplete;
            `recipe` stands for all settings of that recipe, which the other given settings
            override.
        stored: settings of the existing study; None for a new one.

    Raises:
        InputError: a value is invalid, or a recipe has no default range for what is searched.
    """
    for name, value in given.items():
        if name not in {"recipe", "space"}:
            check_setting(name, value)
    asked = given
    if stored is None or "recipe" in given:
        given = _of_recipe(given)
    changes = {name: value for name, value in given.items() if name not in {"recipe", "space"}}
    base = stored or Settings()
    _check_segments(asked, {"steps": base.steps, "segments": base.segments, **changes})
    dimensions = base.space.dimensions if stored else {}
    return dataclasses.replace(
        base, **changes, space=Space.parse(given.get("space", {}), dimensions)
    )


def _check_segments(asked: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that there are as many steps as dev evaluations; blame what was asked for alone."""
    steps, segments = now["steps"], now["segments"]
    if segments <= steps:
        return
    if "segments" not in asked:
        raise InputError(
            f"steps must be at least {segments}, one for each dev evaluation, got {steps}"
        )
    if "steps" not in asked:
        raise InputError(
            f"segments must be at most {steps}, one for each planned step, got {segments}"
        )


def _of_recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given settings on top of those of their recipe."""
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


def differences(stored: Settings, now: Settings, given: Mapping[str, Any]) -> list[str]:
    """Describe each difference between stored settings and those asked for.

    Args:
        stored: the study's settings.
        now: the settings that were asked for.
        given: what was given for them, as `settle` takes it; what only follows from its recipe is
            not listed.
    """
    before, after = stored.to_json(), now.to_json()
    spaces = before.pop("space"), after.pop("space")
    # A setting that was not searched has its fixed value.
    pairs = [
        *((name, before[name], value) for name, value in after.items()),
        *((name, {**before, **spaces[0]}[name], value) for name, value in spaces[1].items()),
    ]
    changed = [(name, then, value) for name, then, value in pairs if then != value]
    asked = {*given, *given.get("space", {})}
    found = [
        f"{name} {_format(then)} (you asked for {_format(value)})"
        for name, then, value in changed
        if name in asked or "recipe" not in given
    ]
    if n_others := len(changed) - len(found):
        found.append(f"{counted(n_others, 'setting')} of the recipe {given['recipe']!r}")
    return found


def _format(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value}"
    if "choices" in value:
        return f"one of {listed(value['choices'])}"
    step = f", step {value['step']}" if "step" in value else ""
    return f"{value['low']} to {value['high']}{step}{', log' if value['log'] else ''}"


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
