"""Word lists that are tables: what divides the columns, and the cells of one of them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_TABLE = 0.9
"""Share of the lines with a delimiter from which a file is taken for a table."""
_HEAD = 5
"""Lines at the start of a table that may be no rows."""
_NOTE = re.compile(r"\s*sep=.\s*")
_RULER = re.compile(r"[\s|:-]*--[\s|:-]*")
_NUMBER = re.compile(r"[+-]?\.?\d(?:[\d.,]*\d)?[.%]?")
_BLANKS = re.compile(" {2,}")
"""Divides the columns of a table that is aligned with blanks."""


def table_delimiter(lines: Sequence[str]) -> str:
    """Return what divides the columns of nearly every line; empty for a plain list of words.

    One space stands for any blanks in lines that have one word beside numbers, such as its index
    or its counts; two spaces for runs of at least two blanks.
    """
    filled = [line for line in lines if line and not line.isspace()]
    kinds: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("\t", lambda line: "\t" in line),
        # Before the comma, which is in "1,000".
        (" ", lambda line: _is_apart(line) and _is_numbered(line)),
        (",", lambda line: "," in line),
        (";", lambda line: ";" in line),
        ("|", lambda line: "|" in line),
        (" ", _is_numbered),
        ("  ", _is_apart),
    )
    enough = _TABLE * len(filled)
    return next((delimiter for delimiter, has in kinds if sum(map(has, filled)) >= enough), "")


def _is_apart(line: str) -> bool:
    return "  " in line.strip()


def _is_numbered(line: str) -> bool:
    """Return whether blanks divide a line into one word and numbers."""
    fields = line.split()
    if len(fields) == 1:
        return False
    others = [field for field in fields if not _is_number(field)]
    return len(others) == 1 and not set(others[0]) & set(",;|")


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def read_column(path: Path, lines: Sequence[str], column: str) -> tuple[list[str], bool]:
    """Return the cells of one column of a table, and whether the first seems to be its heading.

    A heading is left out only if the column is named by it: a number gives all lines, for it did so
    for the studies that exist.

    Raises:
        InputError: the lines are no table, the column is not there, or a line cannot be read.
    """
    delimiter = table_delimiter(lines)
    if not delimiter:
        msg = (
            f"corpus {quoted(path)} has no column {column!r}: nearly every line of a table has a "
            "tab, a comma, a semicolon, a bar, two blanks or a number; leave --column out for a "
            "list of words"
        )
        raise InputError(msg)
    rows = [_row(path, number, line, delimiter) for number, line in enumerate(lines, start=1)]
    if delimiter == " ":
        rows = _with_whole_words(rows)
    # A spreadsheet's note on its delimiter, and the ruler of a table in Markdown, are no rows.
    for odd in (_NOTE, _RULER):
        first = next((n for n, line in enumerate(lines) if n < _HEAD and odd.fullmatch(line)), None)
        if first is not None:
            rows[first] = []
    start = next((number for number, row in enumerate(rows) if any(row)), 0)
    header, reads_heading = rows[start], False
    if column.isdecimal() and 1 <= int(column) <= len(header):
        index = int(column) - 1
        rest = [row for row in rows[start + 1 :] if any(row)]
        reads_heading = bool(header[index]) and _is_heading(header, rest)
    elif column in header:
        index = header.index(column)
        rows[start] = []
    else:
        msg = (
            f"corpus {quoted(path)} has no column {column!r}; its first line has "
            f"{', '.join(map(quoted, header[:10]))}: name one of them, or a number from 1 to "
            f"{len(header)} if that line is no header"
        )
        raise InputError(msg)
    return [row[index] if index < len(row) else "" for row in rows], reads_heading


def _is_heading(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line has text above a column of numbers."""
    return any(
        cell
        and not _is_number(cell)
        and sum(index < len(row) and _is_number(row[index]) for row in rows) >= _TABLE * len(rows)
        for index, cell in enumerate(first)
    )


def _row(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    """Return the cells of one line; a quote that is never closed must not swallow the next."""
    if len(delimiter) > 1:
        return _BLANKS.split(line.strip())
    reader = csv.reader(
        [line.strip(" ")], delimiter=delimiter, skipinitialspace=True, strict='"' in line
    )
    try:
        return [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        msg = (
            f"corpus {quoted(path)}, line {number}: cannot be read as a row of a table ({error}), "
            f"got {quoted(line)}; save it as plain CSV"
        )
        raise InputError(msg) from None


def _with_whole_words(rows: Sequence[list[str]]) -> list[list[str]]:
    """Return rows that blanks divide, with a word of several parts in one cell.

    Where the other rows have two cells, as "emma 12" has, "mary ann 12" has two as well.
    """
    n_cells = Counter(len(row) for row in rows if row).most_common(1)[0][0]
    whole = []
    for row in rows:
        joined: list[str] = []
        for is_number, group in groupby(row, _is_number):
            alike = list(group)
            joined += alike if is_number else [" ".join(alike)]
        whole.append(joined if len(row) > n_cells == len(joined) else row)
    return whole
