"""Config files: read, written with comments to be edited, written as a difference, and changed."""

from __future__ import annotations

import codecs
import json
import shlex
import textwrap
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.study.recipes import RANGES, START_WORDS, start_point
from mmsearch.search.study.settings import READING, Settings, settle
from mmsearch.search.study.space import TRAINING, read_dimensions
from mmsearch.tracking.journal import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Config:
    """The contents of a config file."""

    settings: Mapping[str, Any]
    """The settings that the file has, by name, as `settle` takes them."""
    enqueue: tuple[Mapping[str, Any], ...] = ()
    """Configurations to try before the sampler's proposals."""


def _alike(*names: str) -> dict[str, str]:
    """Return keys that have the names of their settings."""
    return dict(zip(names, names, strict=True))


TABLES: Mapping[str, Mapping[str, str]] = {
    "corpus": _alike(*READING, "split_seed"),
    "training": {
        **_alike(
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
        "seed": "training_seed",
    },
    "search": _alike("sampler", "pruner", "seed", "lanes", "start"),
}
"""Tables of a config file other than `[space]` and `[[enqueue]]`, with their keys and the setting
of each; `[training]` also accepts `recipe`."""
MEANINGS: Mapping[str, str] = {
    "keep_duplicates": "whether to keep repeated words, as makemore does; they leak into dev",
    "column": "column of a table that has the words, by its name in the first line, or by its "
    "number from 1 where there is no header; empty for a list of words",
    "lower": "whether to lower the case of all words",
    "boundary": "character that marks the start and end of a word, and is in none",
    "split_seed": "seed of the 80/10/10 shuffle into train, dev and test",
    "steps": "planned optimizer steps per trial",
    "segments": "dev evaluations within the planned steps; a trial can be pruned at each",
    "batch_size": "examples or contexts per step",
    "optimizer": "the optimizer",
    "targets": "what minibatches are drawn from: single examples, or distinct contexts, each with "
    "the distribution of all characters that follow it",
    "init": "how the parameters are initialized",
    "schedule": "schedule of the learning rate; makemore's is step",
    "cut_at": "share of the planned steps before schedule step cuts the learning rate",
    "cut_factor": "factor by which that cut multiplies the learning rate",
    "averaging": "whether the model is a mean of the weights over the steps or the last (none)",
    "evaluations": "spacing of the dev evaluations over the steps",
    "patience": "dev evaluations without improvement after which a trial ends, scored at its best "
    "one; 0 trains to the last planned step",
    "extend_to": "multiple of the planned steps up to which a trial continues while its dev loss "
    "improves; needs patience and schedule constant",
    "training_seed": "seed of every trial's first weights and minibatches; -1 gives each trial one "
    "of its own, from the seed in [search] and its number",
    "sampler": "Optuna's sampler, which proposes hyperparameters",
    "pruner": "Optuna's pruner, which ends unpromising trials",
    "seed": "seed of the sampler and, unless [training] fixes it, of every trial's training",
    "lanes": "trials that run at once, and the most workers that are used; unlike the number of "
    "workers, it changes the results",
    "start": "whether to try a known good configuration first, as far as the space has it: "
    + ", ".join(f"{name} {value}" for name, value in start_point(START_WORDS).items())
    + f" at {START_WORDS:,} train words; narrower with more decay and noise for fewer words",
    "embedding_dim": "dimensions of a character's embedding",
    "hidden_width": "units of the hidden layer",
    "block_size": "context length, in characters",
    "learning_rate": "initial learning rate; its default range depends on the optimizer",
    "weight_decay": "decay of the three matrices; its default range depends on the optimizer",
    "context_noise": "probability that the oldest character of a context is replaced by a random "
    "one; falls linearly to 0 at the newest",
}
"""Meaning of each setting."""
ABOUT: Mapping[str, str] = {
    "corpus": "The words, which come from the file of --corpus.",
    "training": "How each trial is trained.",
    "search": "How Optuna searches.",
    "space": "What is searched: a number fixes a value, { low, high, log } or { low, high, step } "
    "is a range, and { choices = [...] } lists values. To search "
    + ", ".join(TRAINING)
    + ", add them here.",
    "enqueue": "Configurations to try first; the sampler proposes what one leaves out.",
}
"""Purpose of each table."""
EXAMPLE: Mapping[str, float] = {
    "embedding_dim": 10,
    "hidden_width": 200,
    "block_size": 3,
    "learning_rate": 0.005,
}
"""Makemore's sizes."""


def read_config(
    path: Path, flags: Mapping[str, Any] | None = None, stored: Settings | None = None
) -> Config:
    """Read a config file.

    Args:
        path: the file.
        flags: settings that override those of the file; both are checked together.
        stored: settings of the existing study; None for a new one.

    Raises:
        InputError: the file cannot be read, is not TOML, or has an unknown table or key.
    """
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(
                f"config {str(path)!r} is UTF-16, and TOML is UTF-8; convert it with: "
                f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > "
                f"{shlex.quote(f'{path.stem}-utf8{path.suffix}')}"
            )
        tables = tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
        repr(tables)  # Python refuses to print very long numbers; fail here, not in a message
    except OSError as error:
        raise InputError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, not UTF-8, or a number that is too long
        raise InputError(f"config {str(path)!r} is not TOML: {error}") from error
    except RecursionError as error:
        raise InputError(f"config {str(path)!r} is nested too deeply") from error
    try:
        config = _parse_config(tables)
        settle({**config.settings, **(flags or {})}, stored)
    except InputError as error:
        _blame_flags(flags or {}, stored, error)
        raise InputError(f"config {str(path)!r}: {error}") from error
    return config


def _blame_flags(flags: Mapping[str, Any], stored: Settings | None, error: InputError) -> None:
    """Raise an error that does not depend on the config file without naming it."""
    try:
        settle(flags, stored)
    except InputError as same:
        if str(same) == str(error):
            raise


def _parse_config(tables: Mapping[str, Any]) -> Config:
    known = [*TABLES, "space", "enqueue"]
    given: dict[str, Any] = {}
    for name, table in tables.items():
        if name not in known:
            raise InputError(f"unknown table [{name}]; known are {', '.join(known)}")
        if name == "enqueue":
            continue
        if not isinstance(table, dict):
            raise InputError(f"{name} must be a table, [{name}], got {table!r}")
        if name == "space":
            read_dimensions(table)
            given["space"] = table
            continue
        keys = {**TABLES[name], **({"recipe": "recipe"} if name == "training" else {})}
        for key, value in table.items():
            if key not in keys:
                raise InputError(f"unknown key {key!r} in [{name}]; known are {', '.join(keys)}")
            given[keys[key]] = value
    enqueue = tables.get("enqueue", [])
    if not isinstance(enqueue, list) or not all(isinstance(point, dict) for point in enqueue):
        raise InputError("enqueue must be tables, [[enqueue]]")
    return Config(given, tuple(enqueue))


def template(settings: Settings | None = None, where: str = "its default value") -> str:
    """Return a config file with every setting and a comment on each.

    Args:
        settings: the settings; None for the defaults.
        where: what the values are, for the first lines.
    """
    lines = [
        "# What mmsearch searches and how: mmsearch run --config FILE",
        f"# Every key has {where}; a key that is left out has its default.",
        "# A study keeps the settings that it was started with.",
    ]
    for table, rows in documented_tables(settings or Settings()):
        about = textwrap.wrap(ABOUT[table], 100, initial_indent="# ", subsequent_indent="# ")
        lines += ["", *about, f"[{table}]"]
        width = max(len(f"{key} = {value}") for key, value, _ in rows)
        for key, value, comment in rows:
            lines.append(f"{f'{key} = {value}':<{width}}  # {comment}")
    example = [f"# {key} = {value}" for key, value in EXAMPLE.items()]
    lines += ["", f"# {ABOUT['enqueue']}", "# [[enqueue]]", *example]
    return "\n".join(lines) + "\n"


def differing(settings: Settings) -> str:
    """Return a config file with only the settings that are not at their defaults."""
    defaults = Settings()
    tables = []
    for table, keys in TABLES.items():
        lines = [
            f"{key} = {to_toml(getattr(settings, name))}"
            for key, name in keys.items()
            if getattr(settings, name) != getattr(defaults, name)
        ]
        tables.append((table, lines))
    space = settings.space.dimensions
    usual = settle({"optimizer": settings.optimizer}).space.dimensions
    if "optimizer" in space:  # then the ranges that depend on it have no default
        usual = {name: usual[name] for name in usual if name not in RANGES[settings.optimizer]}
    searched = [
        f"{name} = {to_toml(space[name].to_json())}"
        for name in space
        if space[name] != usual.get(name)
    ]
    tables.append(("space", searched))
    return "\n\n".join("\n".join((f"[{t}]", *lines)) for t, lines in tables if lines)


def documented_tables(settings: Settings) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield each table: its name, and the key, value and comment of each row."""
    kinds = get_type_hints(Settings)
    for table, keys in TABLES.items():
        rows = []
        for key, name in keys.items():
            choices = ", ".join(get_args(kinds[name]))
            meaning = f"{MEANINGS[name]}; one of {choices}" if choices else MEANINGS[name]
            rows.append((key, to_toml(getattr(settings, name)), meaning))
        yield table, rows
    yield (
        "space",
        [
            (n, to_toml(dimension.to_json()), MEANINGS[n])
            for n, dimension in settings.space.dimensions.items()
        ],
    )


def to_toml(value: Any) -> str:
    """Format a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {to_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value}"


def write_learning_rates(path: Path, low: float, high: float) -> None:
    """Set the learning-rate range in a config file's `[space]` and keep the rest of the file.

    Raises:
        InputError: the file cannot be read or is not a config file.
        MMSearchError: it cannot be written.
    """
    import tomlkit  # noqa: PLC0415 (only `lr-range --apply` needs it)
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415 (likewise)

    if path.exists():
        read_config(path)
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
        mark, text = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
        document = tomlkit.parse(text)  # which keeps the ends of lines
        value = tomlkit.inline_table()
        value.update({"low": low, "high": high, "log": True})
        document.setdefault("space", tomlkit.table())["learning_rate"] = value
        content = mark + tomlkit.dumps(document)
    except TOMLKitError as error:
        raise InputError(f"config {str(path)!r} cannot be changed: {error}") from error
    except OSError as error:
        raise MMSearchError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    target = path.resolve()  # a symbolic link stays one
    mode = target.stat().st_mode if target.exists() else None
    files.replace(target, content.encode())
    if mode is not None:
        target.chmod(mode)
