"""The pieces of Markdown that notes in MLflow and the HTML report are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def block(text: str) -> str:
    """Return a text as an indented code block, which shows it as it is."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def escaped(text: str) -> str:
    """Return Markdown that shows a text as it is, on one line."""
    marks = "\\`*_{}[]<>|&#!"
    return "".join(f"\\{c}" if c in marks else c for c in " ".join(text.split()))
