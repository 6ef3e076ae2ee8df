"""`mmsearch sample`: sample new words from a model."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch.counts import counted
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace


def sample(  # noqa: PLR0913 (each is one flag)
    *,
    count: Annotated[
        int, options.number("Number of words.", "-n", "--count", min=1, max=10**6)
    ] = 20,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="Characters that each word begins with.")
    ] = "",
    temperature: Annotated[
        float, typer.Option(help="Divides the logits: below 1, likely characters are likelier.")
    ] = 1.0,
    seed: Annotated[int, options.number("Random seed for sampling.", min=0)] = 2147483657,
    trial: options.Trial = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Sample new words from the chosen model; `*` marks words that occur in train."""
    from mmsearch.search.results.word_samples import sample_trial  # noqa: PLC0415 (imports torch)

    journal = Workspace.at(workspace).existing(study)
    values = sample_trial(journal, trial, count, seed=seed, prefix=prefix, temperature=temperature)
    if as_json:
        print_json(values)
        return
    out = make_console()
    if quiet:
        for word in values["words"]:
            out.print(word["word"])
        return
    state = "" if values["state"] == "COMPLETE" else f" ({values['state'].lower()})"
    out.print(f"{values['model']}{state}, dev loss {values['dev_loss']:.4f}", style="dim")
    if values["note"]:
        out.print(values["note"], style="yellow")
    for word in values["words"]:
        in_train = " *" if word["in_train"] else ""
        cut = f" (cut at {counted(len(word['word']), 'character')})" if word["is_cut"] else ""
        out.print(f"{word['word']}{in_train}{cut}")
