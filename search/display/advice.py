"""What several commands print beside a result: baselines, warnings, earlier test evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.search.display.console import print_wrapped
from mmsearch.search.study.urls import ledger_folder
from mmsearch.tracking.ledger.record import look_words
from mmsearch.tracking.ledger.user_file import UserLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.search.results.advice import Advice
    from mmsearch.tracking.ledger.record import Look


def known_looks(out: Console, split: str) -> list[Look]:
    """Read the test evaluations in the user's own ledger; print an error instead of raising it.

    Args:
        out: the console for errors.
        split: fingerprint of the test words.
    """
    try:
        return UserLedger(ledger_folder()).read(split)
    except MMSearchError as error:
        out.print(str(error), style="yellow")
        return []


def print_looks(out: Console, looks: Sequence[Look]) -> None:
    """Print each evaluation on a test split as a paragraph."""
    for look in looks:
        print_wrapped(out, f"  {look}: {look_words(look)}", style="yellow")


def print_baselines(out: Console, advice: Advice) -> None:
    """Print the baselines in one line if they are known."""
    if advice.baselines is not None:
        out.print(f"baselines: {advice.baselines}")


def print_warnings(out: Console, advice: Advice) -> None:
    """Print each warning as a paragraph."""
    for warning in advice.warnings:
        print_wrapped(out, f"warning: {warning}", style="yellow")


def print_table_warnings(out: Console, delimiter: str, *, reads_heading: bool) -> None:
    """Print that a word list looks like a table, or that a heading seems to be among its words.

    Args:
        out: the console.
        delimiter: what nearly every line has, as `table_delimiter` returns it.
        reads_heading: as a corpus has it.
    """
    if reads_heading:
        print_wrapped(
            out,
            "warning: the first line seems to be a heading, and is read as a word; to leave it "
            "out, give --column the heading in place of the number",
            style="yellow",
        )
    if delimiter:
        blanks = {" ": "a word beside a number", "  ": "columns divided by blanks"}
        what = blanks.get(delimiter, f"a {delimiter!r}")
        print_wrapped(
            out,
            f"warning: nearly every line has {what}, as in a table; to read one of its columns, "
            "add --column NAME, or --column 1 where the first line is no header",
            style="yellow",
        )
