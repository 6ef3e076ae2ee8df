"""Text about test evaluations: the note in MLflow and the refusal of another evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmsearch.counts import counted
from mmsearch.errors import RefusedError
from mmsearch.tracking.ledger.record import look_words, shown_date
from mmsearch.tracking.markdown import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.tracking.ledger.record import Look


def used_up(looks: Sequence[Look]) -> RefusedError:
    """Return the error for a test split that is refused to another model."""
    used = "; ".join(f"{look}: {look_words(look)}" for look in looks)
    finish = (
        "the model that claimed it may finish: run the same command again; "
        if any(look.result is None for look in looks)
        else ""
    )
    return RefusedError(
        f"the test split was already used ({used})",
        hint=f'{finish}to evaluate another model anyway, pass --again "REASON"; this is recorded '
        "permanently and shown beside every later result",
    )


def final_note(look: Look) -> str:
    """Return a test evaluation as Markdown."""
    head = f"**Final test, {look}: {look.model}** of study `{look.study}`"
    why = f"\n\nTested again because: {look.reason}" if look.reason else ""
    if look.result is None:
        return f"{head}, claimed {shown_date(look.claimed_ms)} and not finished.{why}"
    r = look.result
    rows = [
        (name, f"{value:.4f}", f"{value / math.log(2):.4f}")
        for name, value in (
            ("test", r["test_loss"]),
            ("dev", r["dev_loss"]),
            ("n-gram", r.get("ngram_loss")),
            ("bigram counts", r["bigram_loss"]),
            ("uniform", r["uniform_loss"]),
        )
        if value is not None
    ]
    anyway = (
        "\n\nIt does not beat bigram counts on dev and was tested because of `--anyway`."
        if r.get("anyway")
        else ""
    )
    return (
        f"{head}: **{r['test_loss']:.4f} nats per character** (95 % interval "
        f"{r['test_loss_low']:.4f} to {r['test_loss_high']:.4f}, bootstrap over "
        f"{counted(r['n_test_words'], 'word')}), {shown_date(r['tested_ms'])}.\n\n"
        f"Chosen as: {r['why']}.{why}{anyway}\n\n"
        f"{table(('', 'nats/char', 'bits/char'), rows)}"
    )
