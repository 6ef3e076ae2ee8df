"""Consoles, and the ways to print that every command shares."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from mmsearch.errors import MMSearchError

_MIN_WIDTH = 20
"""Columns below which text is not wrapped further."""


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Make a console that prints text unchanged: no markup, no highlighting, no hard wraps."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True, quiet=quiet)


def print_error(error: MMSearchError) -> None:
    """Print an error: one line in a log; wrapped on a terminal.

    A command at the end of the message, after a colon, gets a line of its own on a terminal, so
    that it can be copied.
    """
    out, message = make_console(stderr=True), f"error: {error}"
    if not out.is_terminal:
        out.print(message, style="red")
        return
    text, colon, command = message.rpartition(": mmsearch ")
    print_wrapped(out, f"{text}:" if colon else message, style="red", indent="")
    if colon:
        out.print(f"  mmsearch {command}", style="red")


def print_json_error(error: MMSearchError, code: int) -> None:
    """Print an error as JSON on standard error, with the exit code and the next step apart."""
    value = {"code": code, "message": error.what, "hint": error.hint}
    sys.stderr.write(json.dumps({"error": value}) + "\n")


def print_wrapped(out: Console, text: str, style: str | None = None, indent: str = "  ") -> None:
    """Print a text wrapped between words to the console's width.

    Args:
        out: the console.
        text: one paragraph; its own leading spaces are kept.
        style: a rich style.
        indent: what every line but the first begins with.
    """
    lines = textwrap.wrap(
        text,
        max(_MIN_WIDTH, out.width),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    out.print("\n".join(lines), style=style)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a result as strict JSON in ASCII; numbers that are not finite become null.

    Args:
        value: the result.
        indent: spaces per level; None prints one line.
    """
    sys.stdout.write(json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
