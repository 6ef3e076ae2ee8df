"""What is said of a chosen model: its confirmation, its final test, its replay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mmsearch.search.display.format import spec_words
from mmsearch.search.display.printing import (
    print_baselines,
    print_indented,
    print_looks,
    print_warnings,
)
from mmsearch.search.display.tables import TableColumn, fitted_table, spec_columns
from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal.baselines import ngram_words
from mmsearch.tracking.ledger.record import look_words, shown_date
from mmsearch.tracking.mlflow.notes import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.search.execution.replay import Replay
    from mmsearch.search.results.advice import Advice
    from mmsearch.search.results.final_evaluation import FinalTest
    from mmsearch.search.results.selection import Candidate, Confirmation
    from mmsearch.tracking.ledger.record import Look


def confirmation_json(confirmation: Confirmation) -> dict[str, Any]:
    """Give a confirmation as JSON values."""
    winner = confirmation.winner
    return {
        **confirmation.plan.to_json(),
        "n_missing": confirmation.n_missing,
        "candidates": [_candidate_json(candidate) for candidate in confirmation.candidates],
        "flattery": confirmation.flattery,
        "lead": lead[0] if (lead := confirmation.lead) else None,
        "lead_standard_error": lead[1] if lead else None,
        "lead_may_be_chance": confirmation.may_lead_by_chance,
        "chosen": None
        if winner is None
        else {
            "trial": winner.trial.number,
            "nth_seed": winner.best.facts["nth_seed"],
            "dev_loss": winner.best.dev_loss,
        },
    }


def print_confirmation(
    out: Console,
    confirmation: Confirmation,
    where: str,
    looks: Sequence[Look],
    advice: Advice,
) -> None:
    """Lay the candidates side by side, and say which is chosen and what to type next.

    Args:
        out: where to.
        confirmation: what is known.
        where: the options that name the study.
        looks: at its test split so far.
        advice: what it is held against, and what it warns of.
    """
    plan = confirmation.plan
    candidates = confirmation.candidates
    specs = [candidate.trial.spec for candidate in candidates]
    columns = [
        TableColumn(heading="trial", cells=[str(c.trial.number) for c in candidates]),
        TableColumn(heading="search", cells=[f"{c.trial.dev_loss:.4f}" for c in candidates]),
        TableColumn(heading="mean ± sd", cells=[_mean_words(c, plan.n_seeds) for c in candidates]),
        TableColumn(
            heading="best",
            cells=[f"{c.best.dev_loss:.4f}" if c.repeats else "" for c in candidates],
            rank=1,
        ),
        *spec_columns(shown_columns(specs), specs),
    ]
    winner = confirmation.winner
    out.print(fitted_table(columns, ["bold green" if c is winner else None for c in candidates]))
    print_baselines(out, advice)
    if confirmation.n_missing:
        out.print(f"{confirmation.n_missing} trainings are missing")
        out.print(f"go on:    {plan.command}{where}")
        return
    _print_flattery(out, confirmation)
    if winner is None:
        out.print("every candidate diverged from some seed; confirm more of them with --top")
        return
    if confirmation.lead is not None:
        ahead, error = confirmation.lead
        next_one = confirmation.candidates[1].trial.number
        chance = "; that may be chance" if confirmation.may_lead_by_chance else ""
        lead = f"trial {winner.trial.number} leads trial {next_one} by {ahead:.4f} ± {error:.4f}"
        out.print(f"{lead} (s.e.){chance}")
        n_candidates = len(candidates)
        out.print(f"  and was chosen as the best of {n_candidates} by these seeds: expect less")
    expected = f"; expect its mean, {winner.mean:.4f}" if plan.n_seeds > 1 else ""
    out.print(
        f"chosen: {winner.best.name}, dev loss {winner.best.dev_loss:.4f}{expected}",
        style="bold green",
    )
    print_warnings(out, advice)
    if looks:
        out.print("the test split of these words is spent:", style="yellow")
        print_looks(out, looks)
    else:
        out.print(f"test once:  mmsearch final-test{where}")


def _print_flattery(out: Console, confirmation: Confirmation) -> None:
    first = confirmation.plan.trials[0]
    gap = confirmation.flattery
    if gap is None:
        has_diverged = any(c.n_failed for c in confirmation.candidates if c.trial.number == first)
        why = "it diverged from a fresh seed" if has_diverged else "it was trained for other steps"
        out.print(
            f"by how much trial {first}, the search's winner, flattered itself is not told:\n"
            f"  {why}"
        )
        return
    how = "flattered itself by" if gap >= 0 else "been unlucky by"
    error = next(c for c in confirmation.candidates if c.trial.number == first).standard_error
    spread = "" if error is None else f" ± {error:.4f}"
    out.print(f"trial {first}, the search's winner, had {how} {abs(gap):.4f}{spread} nats")


def _mean_words(candidate: Candidate, n_seeds: int) -> str:
    if not candidate.repeats:
        return "all diverged" if candidate.n_failed == n_seeds else ""
    sd = "" if candidate.sd is None else f" ± {candidate.sd:.4f}"
    short = len(candidate.repeats) < n_seeds
    return f"{candidate.mean:.4f}{sd}" + (f" of {len(candidate.repeats)}" if short else "")


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "trial": candidate.trial.number,
        "search_dev_loss": candidate.trial.dev_loss,
        "mean": candidate.mean if candidate.repeats else None,
        "sd": candidate.sd,
        "n_failed": candidate.n_failed,
        "seeds": [
            {
                "nth_seed": record.facts["nth_seed"],
                "seed": record.spec.seed,
                "dev_loss": record.dev_loss,
            }
            for record in candidate.repeats
        ],
        "spec": candidate.trial.spec.to_json(),
    }


def final_test_json(test: FinalTest) -> dict[str, Any]:
    """Give a final test as JSON values."""
    return {
        "is_recorded": test.is_recorded,
        **_look_json(test.look),
        # Looks of earlier versions lack these.
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


def print_final_test(out: Console, test: FinalTest) -> None:
    """Say the model, why it was chosen, its test loss, and what to hold it against."""
    look, result = test.look, test.look.result or {}
    out.print(f"study {look.study!r}, {look.model}: {spec_words(result['spec'])}")
    print_indented(out, result["why"])
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for heading in ("", "nats/char", "bits/char", "perplexity", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    interval = f"95 %: {result['test_loss_low']:.4f} to {result['test_loss_high']:.4f}"
    _add_loss(table, "test", result["test_loss"], interval, style="bold green")
    _add_loss(table, "dev", result["dev_loss"])
    if result["dev_loss_mean"] is not None:
        sd = result["dev_loss_sd"]
        spread = "" if sd is None else f"± {sd:.4f}"
        _add_loss(table, "dev, mean of seeds", result["dev_loss_mean"], spread)
    if result.get("ngram_loss") is not None:
        detail = ngram_words(result["ngram_order"], result["ngram_strength"])
        _add_loss(table, "n-gram", result["ngram_loss"], detail)
    _add_loss(table, "bigram counts", result["bigram_loss"], "add one, fitted on train")
    _add_loss(table, "uniform", result["uniform_loss"])
    out.print(table)
    n_words, n_characters = result["n_test_words"], result["n_test_characters"]
    out.print(f"{n_words:,} test words, {n_characters:,} characters with their ends")
    if result["n_test_words_in_train"]:
        out.print(
            f"{result['n_test_words_in_train']:,} of the test words also stand in train",
            style="yellow",
        )
    if result.get("anyway"):
        out.print(
            f"{look.model} does not beat bigram counts on dev, and was tested by --anyway",
            style="yellow",
        )
    tested = [each for each in test.looks if each.study_id == look.study_id and each.result]
    if tested[-1:] == [look]:
        out.print(f"in MLflow's registry: models:/mmsearch-{look.study}@champion")
    if not test.is_recorded:
        out.print(f"this was {look}: it is recorded, and the test split is spent now")
    else:
        out.print(
            f"recorded on {shown_date(result['tested_ms'])}; the test split was not opened again",
            style="yellow",
        )
    if len(test.looks) > 1:
        out.print(f"{len(test.looks)} looks at this test split so far:", style="yellow")
        print_looks(out, test.looks)


def _add_loss(
    table: Table, name: str, nats: float, detail: str = "", style: str | None = None
) -> None:
    bits, perplexity = nats / math.log(2), math.exp(min(nats, 700))
    shown = f"{perplexity:.2f}" if perplexity < 1e5 else f"{perplexity:.1e}"  # noqa: PLR2004 (width)
    table.add_row(name, f"{nats:.4f}", f"{bits:.4f}", shown, detail, style=style)


def spent_words(looks: Sequence[Look]) -> str:
    """Say what a test split was spent on, and the ways on."""
    spent = "; ".join(f"{look}: {look_words(look)}" for look in looks)
    finish = (
        "The model that claimed it may finish, by the same line. "
        if any(look.result is None for look in looks)
        else ""
    )
    return (
        f"the test split is spent ({spent}). {finish}A number for another model is one more look "
        'at the same words: --again "REASON" takes it, numbered, kept for good and printed beside '
        "every later result"
    )


def final_note(look: Look) -> str:
    """Say a look in Markdown."""
    head = f"**Final test, {look}: {look.model}** of study `{look.study}`"
    why = f"\n\nTaken again because: {look.reason}" if look.reason else ""
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
        "\n\nIt does not beat bigram counts on dev, and was tested by `--anyway`."
        if r.get("anyway")
        else ""
    )
    return (
        f"{head}: **{r['test_loss']:.4f} nats per character** (95 % interval "
        f"{r['test_loss_low']:.4f} to {r['test_loss_high']:.4f}, bootstrap over "
        f"{r['n_test_words']:,} words), {shown_date(r['tested_ms'])}.\n\n"
        f"Chosen as: {r['why']}.{why}{anyway}\n\n"
        f"{table(('', 'nats/char', 'bits/char'), rows)}"
    )


def replay_json(replay: Replay) -> dict[str, Any]:
    """Give a replay as JSON values."""
    return {
        "model": replay.record.name,
        "trial": replay.record.facts.get("trial", replay.record.number),
        "dev_loss": replay.record.dev_loss,
        "is_reproduced": replay.is_reproduced,
        "is_identical": replay.is_identical,
        "compared": "within a tolerance" if replay.changed else "bit for bit",
        "changed": {name: list(pair) for name, pair in replay.changed.items()},
        "n_segments": len(replay.record.curve),
        "n_equal_segments": sum(segment.is_equal for segment in replay.segments),
        "max_gap_nats": replay.max_gap_nats,
        "parting_step": replay.parting_step,
        "recorded_end": replay.recorded_end,
        "end": replay.end,
    }


def print_replay(out: Console, replay: Replay, tolerance: float) -> None:
    """Say whether a trial came out as it was recorded, and how that was compared."""
    name, n = replay.record.name, len(replay.record.curve)
    for what, (then, now) in replay.changed.items():
        out.print(f"{what} was {then}, and is {now}", style="yellow")
    if replay.is_identical:
        out.print(f"{name} is the same, bit for bit: {n} of {n} segments")
    elif replay.is_reproduced:
        out.print(
            f"{name} is the same within {tolerance:g} nats: {n} of {n} segments, dev "
            f"losses {replay.max_gap_nats:.1g} apart at most"
        )
    else:
        _print_difference(out, replay)
    if replay.end and replay.is_reproduced:
        out.print(f"and it diverged as it did: {replay.end}")


def _print_difference(out: Console, replay: Replay) -> None:
    """Say where a trial parts from its record."""
    out.print(f"{replay.record.name} is not what was recorded:", style="red")
    n, n_equal = len(replay.record.curve), sum(segment.is_equal for segment in replay.segments)
    lines = [f"{n_equal} of {n} segments are equal"]
    if replay.parting_step is not None:
        last = replay.segments[-1]
        lines.append(f"they part by step {replay.parting_step}")
        lines.append(f"dev loss at step {last.step}: {last.then:.6f} then, {last.now:.6f} now")
    if replay.end != replay.recorded_end:
        lines.append(f"then: {replay.recorded_end or 'it did not diverge'}")
        lines.append(f"now: {replay.end or 'it does not diverge'}")
    if replay.changed:
        lines.append("other versions may do that at a learning rate where rounding grows")
    for line in lines:
        out.print(f"  {line}")
