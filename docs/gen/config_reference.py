"""Write docs/config.md, the reference of the config file.

python docs/gen/config_reference.py > docs/config.md
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mmsearch.search.study.config_file import ABOUT, EXAMPLE, documented_tables, to_toml
from mmsearch.search.study.recipes import RANGES, RECIPES
from mmsearch.search.study.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HEAD = """\
# The config file

`mmsearch init` writes one with every default and a comment for each; `mmsearch run --config
FILE` reads it. An option on the command line overrides the file, and the file overrides its
recipe. The settings in force are stored with the study, in `study.json`, and cannot be changed
later; a file given then need not repeat them. `mmsearch init --study NAME` writes them to a file.

This page is generated from the code, and a test compares the two."""
_RECIPES = """
## Recipes

`recipe = "article"` under `[training]` stands for all training settings of makemore's MLP;
`mmsearch init --article` writes them out. A key that is given beside it overrides the recipe. The
study stores the settings, not `recipe`.
"""


def reference() -> str:
    """Return the page: every table, key, default and meaning."""
    lines = [_HEAD]
    for table, rows in documented_tables(Settings()):
        lines += ["", f"## `[{table}]`", "", ABOUT[table], ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key}` | `{value}` | {comment} |" for key, value, comment in rows]
    lines.append(_RECIPES)
    lines += _compared({name: {**r.settings, **r.space} for name, r in RECIPES.items()})
    lines += ["", "The default ranges of two hyperparameters depend on the optimizer:", ""]
    lines += _compared(RANGES)
    lines += ["", "## `[[enqueue]]`", "", f"{ABOUT['enqueue']} There may be any number of them:"]
    lines += ["", "```toml", "[[enqueue]]"]
    lines += [*(f"{key} = {value}" for key, value in EXAMPLE.items()), "```"]
    return "\n".join(lines) + "\n"


def _compared(columns: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table with a row for each key of the columns."""
    yield _row(["key", *(f"`{name}`" for name in columns)])
    yield f"|---|{'---|' * len(columns)}"
    for key in next(iter(columns.values())):
        yield _row([f"`{key}`", *(f"`{to_toml(column[key])}`" for column in columns.values())])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
