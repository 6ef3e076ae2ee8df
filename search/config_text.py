"""A config file written out: with comments, to be edited, and as the reference in the docs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mmsearch.search.settings import TABLES, Settings
from mmsearch.search.space import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mmsearch.search.space import Dimension

MEANINGS: Mapping[str, str] = {
    "keep_duplicates": "keep repeated words, as the article does; they leak from train into dev",
    "split_seed": "of the 80/10/10 shuffle into train, dev and test",
    "steps": "SGD steps a trial",
    "segments": "dev evaluations a trial, evenly spread; at each it may be pruned",
    "batch_size": "examples a step",
    "init": "how parameters start",
    "schedule": "the learning rate over the steps; the article's is step",
    "averaging": "which weights are the model: a mean over the steps, or the last (none)",
    "sampler": "what proposes hyperparameters",
    "pruner": "what ends hopeless trials",
    "seed": "of the proposals and of every trial's training",
    "embedding_dim": "numbers that stand for one character",
    "hidden_width": "units of the hidden layer",
    "block_size": "context length, in characters",
    "learning_rate": "of SGD; see mmsearch lr-range",
    "weight_decay": "L2 pull on the three matrices",
}
"""What each key means."""
_ABOUT = {
    "corpus": "The words. Which file they come from is said by --corpus.",
    "training": "Each trial.",
    "search": "The search.",
    "space": "What is searched: a number fixes a value, { low, high, log } is a range.",
    "enqueue": "Configurations to try first; what one leaves out is proposed by the sampler.",
}
_EXAMPLE = {"embedding_dim": 10, "hidden_width": 200, "block_size": 3, "learning_rate": 0.1}
"""The article's model."""


def template(study: str = "", settings: Settings | None = None) -> str:
    """Write a config file that says every default, each with a comment.

    Args:
        study: the name of one whose settings it says instead.
        settings: that study's.
    """
    value = f"its value in study {study!r}" if study else "its default"
    lines = [
        "# What mmsearch searches and how: mmsearch run --config FILE",
        f"# Every key stands at {value}; what is left out is at its default.",
        "# A study keeps the settings that it was started with.",
    ]
    for table, rows in _tables(settings or Settings()):
        lines += ["", f"# {_ABOUT[table]}", f"[{table}]"]
        width = max(len(f"{key} = {value}") for key, value, _ in rows)
        for key, value, comment in rows:
            lines.append(f"{f'{key} = {value}':<{width}}  # {comment}")
    example = [f"# {key} = {value}" for key, value in _EXAMPLE.items()]
    lines += ["", f"# {_ABOUT['enqueue']}", "# [[enqueue]]", *example]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Write the page of the docs: every table, key, default and meaning."""
    lines = [
        "# The config file",
        "",
        "`mmsearch init` writes one with every default and a comment each; `mmsearch run --config",
        "FILE` reads it. A flag goes before the file, the file before the default. The settings in",
        "force are stored with the study, in `study.json`, and it takes no others later; `mmsearch",
        "init --study NAME` writes them as such a file again.",
        "",
        "This page is written by the code it describes, and a test holds the two together.",
    ]
    for table, rows in _tables(Settings()):
        lines += ["", f"## `[{table}]`", "", _ABOUT[table], ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key}` | `{value}` | {comment} |" for key, value, comment in rows]
    lines += [
        "",
        "## `[[enqueue]]`",
        "",
        _ABOUT["enqueue"] + " As many as you like:",
        "",
        "```toml",
    ]
    lines += ["[[enqueue]]", *(f"{key} = {value}" for key, value in _EXAMPLE.items()), "```"]
    return "\n".join(lines) + "\n"


def differing(settings: Settings) -> str:
    """Write a config file that says where settings are not at their defaults; may be empty."""
    defaults = Settings()
    tables = []
    for table, keys in TABLES.items():
        lines = [
            f"{key} = {_toml(getattr(settings, key))}"
            for key in keys
            if getattr(settings, key) != getattr(defaults, key)
        ]
        tables.append((table, lines))
    dimensions = settings.space.dimensions.items()
    searched = [f"{n} = {_dimension(d)}" for n, d in dimensions if d != DEFAULTS[n]]
    tables.append(("space", searched))
    return "\n\n".join("\n".join((f"[{t}]", *lines)) for t, lines in tables if lines)


def _tables(settings: Settings) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Give each table, with the key, the value and the comment of each of its rows."""
    kinds = get_type_hints(Settings)
    for table, keys in TABLES.items():
        rows = []
        for key in keys:
            choices = ", ".join(get_args(kinds[key]))
            meaning = f"{MEANINGS[key]}; one of {choices}" if choices else MEANINGS[key]
            rows.append((key, _toml(getattr(settings, key)), meaning))
        yield table, rows
    yield (
        "space",
        [
            (n, _dimension(dimension), MEANINGS[n])
            for n, dimension in settings.space.dimensions.items()
        ],
    )


def _dimension(dimension: Dimension) -> str:
    if dimension.is_fixed:
        return _toml(dimension.low)
    low, high = _toml(dimension.low), _toml(dimension.high)
    return f"{{ low = {low}, high = {high}, log = {_toml(dimension.log)} }}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value}"


if __name__ == "__main__":
    sys.stdout.write(reference())
