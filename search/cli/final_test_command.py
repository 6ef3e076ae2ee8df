"""`mmsearch final-test`: evaluate the chosen model on the test split, once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.errors import InputError
from mmsearch.model.spec import TrialSpec
from mmsearch.search.cli import options
from mmsearch.search.display.advice import print_looks
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.display.format import format_spec
from mmsearch.search.display.tables import make_table
from mmsearch.search.study.workspace import Workspace
from mmsearch.tracking.journal.baselines import ngram_words
from mmsearch.tracking.ledger.record import shown_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.text import Text

    from mmsearch.search.results.final_evaluation import FinalTest
    from mmsearch.tracking.ledger.record import Look


def final_test(  # noqa: PLR0913 (each is one flag)
    *,
    trial: options.Trial = None,
    again: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Evaluate on the test split although it was used before; REASON is recorded.",
        ),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Evaluate a model even if it does not beat bigram counts on dev."
        ),
    ] = False,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    storage: options.Storage = None,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
) -> None:
    """Evaluate the chosen model on the test split, once.

    For the same model it prints the recorded number again; another model is refused.
    """
    from mmsearch.search.results.final_evaluation import final_test as evaluate  # noqa: PLC0415 (torch)
    from mmsearch.search.study.session import Session  # noqa: PLC0415 (imports wait)

    session = Session.reopen(
        Workspace.at(workspace), study, storage=storage, tracking_uri=tracking_uri
    )
    err = make_console(stderr=True)
    test = evaluate(
        session, trial, again, lambda line: err.print(line, style="yellow"), is_forced=anyway
    )
    if as_json:
        print_json(to_json(test))
    else:
        print_final_test(make_console(), test)


def print_final_test(out: Console, test: FinalTest) -> None:
    """Print the model, why it was chosen, and its test loss beside the baselines."""
    look, result = test.look, test.look.result or {}
    out.print(f"study {look.study!r}, {look.model}")
    print_wrapped(out, f"  {_format_spec(result['spec'])}")
    print_wrapped(out, f"  {result['why']}")
    out.print(_table(result))
    n_words, n_characters = result["n_test_words"], result["n_test_characters"]
    out.print(
        f"{counted(n_words, 'test word')}, {counted(n_characters, 'character')} including the ends "
        "of words"
    )
    if result["n_test_words_in_train"]:
        out.print(
            f"{result['n_test_words_in_train']:,} of {counted(n_words, 'test word')} also "
            f"{'occurs' if result['n_test_words_in_train'] == 1 else 'occur'} in train",
            style="yellow",
        )
    if result.get("anyway"):
        out.print(
            f"{look.model} does not beat bigram counts on dev; it was tested because of --anyway",
            style="yellow",
        )
    tested = [other for other in test.looks if other.study_id == look.study_id and other.result]
    if tested[-1:] == [look]:
        out.print(f"in MLflow's registry: models:/mmsearch-{look.study}@champion")
    if not test.is_recorded:
        out.print(f"recorded as {look}; the test split is now used up")
    else:
        out.print(
            f"recorded on {shown_date(result['tested_ms'])}; the test split was not opened again",
            style="yellow",
        )
    if len(test.looks) > 1:
        out.print(f"{len(test.looks)} looks at this test split so far:", style="yellow")
        print_looks(out, test.looks)


def _format_spec(values: Mapping[str, Any]) -> str:
    """Format the recorded hyperparameters; another version may have recorded other ones."""
    try:
        return format_spec(TrialSpec.from_json(values))
    except InputError:
        return "hyperparameters of another version of mmsearch"


def _table(result: Mapping[str, Any]) -> Text:
    """Make a table of the losses in three units."""
    mean_detail = "" if result["dev_loss_sd"] is None else f"± {result['dev_loss_sd']:.4f}"
    ngram_detail = (
        ngram_words(result["ngram_order"], result["ngram_strength"])
        if result.get("ngram_loss") is not None
        else ""
    )
    rows = (
        (
            "test",
            result["test_loss"],
            f"95 %: {result['test_loss_low']:.4f} to {result['test_loss_high']:.4f}",
        ),
        ("dev", result["dev_loss"], ""),
        ("dev, mean of seeds", result["dev_loss_mean"], mean_detail),
        ("n-gram", result.get("ngram_loss"), ngram_detail),
        ("bigram counts", result["bigram_loss"], "add one, fitted on train"),
        ("uniform", result["uniform_loss"], ""),
    )
    cells, styles = [], []
    for name, nats, detail in rows:
        if nats is None:
            continue
        perplexity = math.exp(min(nats, 700))
        shown = f"{perplexity:.2f}" if perplexity < 1e5 else f"{perplexity:.1e}"  # noqa: PLR2004 (width)
        cells.append((name, f"{nats:.4f}", f"{nats / math.log(2):.4f}", shown, detail))
        styles.append("bold green" if name == "test" else None)
    return make_table(("", "nats/char", "bits/char", "perplexity", ""), cells, styles, left={""})


def to_json(test: FinalTest) -> dict[str, Any]:
    """Return a final test as JSON values."""
    return {
        "is_recorded": test.is_recorded,
        **_look_json(test.look),
        # Results of earlier versions lack these.
        **dict.fromkeys(("ngram_loss", "ngram_order", "ngram_strength")),
        "anyway": False,
        **(test.look.result or {}),
        "looks": [
            {**_look_json(look), "test_loss": (look.result or {}).get("test_loss")}
            for look in test.looks
        ],
    }


def _look_json(look: Look) -> dict[str, Any]:
    values = {**look.to_json(), "look": look.number}
    for name in ("number", "result"):
        del values[name]
    return values
