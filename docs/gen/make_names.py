"""Make data/names.txt, the built-in corpus, from the national names of the US SSA.

    python docs/gen/make_names.py path/to/ssa_yob2018.txt data/names.txt

Every row of the source (name, sex, births; most frequent first, girls before boys) gives one
line: the name in lower case. A name given to both sexes occurs twice; reading the corpus drops
the second one. It needs only the standard library, and mmsearch itself never runs it.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_N_COLUMNS = 3


def make_names(source: str) -> str:
    """Turn the rows `name,sex,births` into lower-case names, one a line, in their order.

    Raises:
        ValueError: a row does not have three columns, or has no name.
    """
    names = []
    for number, row in enumerate(csv.reader(source.splitlines()), start=1):
        if len(row) != _N_COLUMNS or not row[0]:
            msg = f"row {number} must be name,sex,births, got {','.join(row)!r}"
            raise ValueError(msg)
        names.append(row[0].lower() + "\n")
    return "".join(names)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the source, write the names."""
    parser = argparse.ArgumentParser(description="Make names.txt from the US SSA's names.")
    parser.add_argument("source", type=Path, help="rows of name,sex,births, UTF-8")
    parser.add_argument("target", type=Path, help="the file to write")
    arguments = parser.parse_args(argv)
    try:
        names = make_names(arguments.source.read_text(encoding="utf-8"))
        arguments.target.write_text(names, encoding="utf-8", newline="\n")
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
