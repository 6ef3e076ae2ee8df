"""`mmsearch losses`: show the losses of a model on all of train and dev."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.display.tables import make_table
from mmsearch.search.study.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

_ORDINALS = {"1": "1st", "2": "2nd", "3": "3rd"}


def losses(
    *,
    trial: options.Trial = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    as_json: options.Json = False,
) -> None:
    """Show the chosen model's loss on all train and dev words, and on parts of dev."""
    from mmsearch.search.results.split_losses import split_losses  # noqa: PLC0415 (imports torch)
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    values = split_losses(Session.reopen(Workspace.at(workspace), study), trial)
    if as_json:
        print_json(values)
    else:
        _print_losses(make_console(), values)


def _print_losses(out: Console, values: dict[str, Any]) -> None:
    state = "" if values["state"] == "COMPLETE" else f" ({values['state'].lower()})"
    out.print(f"{values['model']}{state}: mean losses in nats per character", style="dim")
    if values["note"]:
        out.print(values["note"], style="yellow")
    rows = {
        "train": values["train"],
        "dev": values["dev"],
        "  words that occur in train": values["dev_in_train"],
        "  words that do not": values["dev_not_in_train"],
        **{_position(part["position"]): part for part in values["dev_by_position"]},
    }
    cells = [
        (
            name,
            f"{part['loss']:.4f}",
            f"{part['n_words']:,}" if "n_words" in part else "",
            f"{part['n_characters']:,}",
        )
        for name, part in rows.items()
        if part is not None
    ]
    out.print(make_table(("", "loss", "words", "characters"), cells, left={""}))


def _position(position: str) -> str:
    """Return the name of the row of a position in the word."""
    if position == "end":
        return "  ends of words"
    nth = _ORDINALS.get(position, f"{position.removesuffix('+')}th")
    return f"  {nth} character{' and later' if position.endswith('+') else ''}"
