"""`mmsearch confirm`: train the best trials again from fresh seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.search.cli import options
from mmsearch.search.display.advice import (
    known_looks,
    print_baselines,
    print_looks,
    print_warnings,
)
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.display.streams import going_on
from mmsearch.search.display.tables import TableColumn, fitted_table, spec_columns
from mmsearch.search.results.advice import Advice, confirmation_advice
from mmsearch.search.study.workspace import Workspace, options_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from mmsearch.search.results.selection import Candidate, Confirmation
    from mmsearch.tracking.ledger.record import Look


def confirm(  # noqa: PLR0913 (each is one flag)
    *,
    top: Annotated[int, options.number("Retrain the N best trials.", min=1)] = 3,
    seeds: Annotated[int, options.number("Number of fresh seeds for each trial.", min=1)] = 5,
    steps: Annotated[
        int | None, options.number("Planned training steps.", default="the study's", min=1)
    ] = None,
    workers: options.Workers = None,
    dask: options.Dask = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    tracking_uri: options.TrackingUri = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train the best trials from fresh seeds; choose the best mean dev loss.

    The best of many noisy scores is optimistic: retrained from fresh seeds, that
    trial usually scores worse.
    Run the same command again to resume.
    """
    from mmsearch.search.cli.training import (  # noqa: PLC0415 (imports wait)
        chosen_workers,
        dask_option,
        train_live,
    )
    from mmsearch.search.execution.confirm_job import Confirm, make_plan  # noqa: PLC0415
    from mmsearch.search.execution.coordinator import Limits  # noqa: PLC0415
    from mmsearch.search.execution.runner import opened  # noqa: PLC0415
    from mmsearch.search.results.selection import Confirmation  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    training = chosen_workers(workers, dask)
    session = Session.reopen(Workspace.at(workspace), study, tracking_uri=tracking_uri)
    journal, settings = session.journal, session.file.settings
    plan = make_plan(journal, top, seeds, steps or settings.steps)
    job = Confirm(session, plan)
    out = make_console()
    with going_on("the confirmation"), opened(job) as earlier:
        if not (quiet or as_json):
            is_one = len(plan.trials) == 1
            best = "trial, fresh " if is_one else f"{len(plan.trials)} trials, each with fresh "
            fresh = "seed 1" if plan.n_seeds == 1 else f"seeds 1 to {plan.n_seeds}"
            print_wrapped(
                out,
                f"study {journal.name!r}: the best {best}{fresh}, "
                f"{counted(plan.steps, 'step')}, on dev",
            )
        result, interrupted_code = train_live(
            job,
            earlier,
            Limits(n_trials=job.n_trials),
            training,
            out,
            noun="trainings",
            is_quiet=quiet,
            as_json=as_json,
        )
    confirmation = Confirmation.read(journal)
    assert confirmation is not None  # noqa: S101 (its plan has just been written)
    advice = confirmation_advice(journal, confirmation, settings.space)
    if as_json:
        print_json({**to_json(confirmation), **advice.to_json()})
    else:
        looks = known_looks(out, session.split.fingerprint)
        where = options_of(journal)
        _print_confirmation(out, confirmation, where, looks, advice, cluster=dask_option(dask))
    if result.ended_by == "interrupt":
        raise typer.Exit(interrupted_code)
    if confirmation.winner is None:
        raise typer.Exit(1)


def _print_confirmation(  # noqa: PLR0913 (what a confirmation came to)
    out: Console,
    confirmation: Confirmation,
    where: str,
    looks: Sequence[Look],
    advice: Advice,
    *,
    cluster: str,
) -> None:
    """Print the candidates, which one is chosen, and the next command with the options `where`.

    One that resumes the training gets the option `cluster`, too.
    """
    plan, winner = confirmation.plan, confirmation.winner
    out.print(_table(confirmation))
    print_baselines(out, advice)
    if confirmation.n_missing:
        out.print(f"{counted(confirmation.n_missing, 'training is', 'trainings are')} still to do")
        out.print(f"resume:   {plan.command}{where}{cluster}")
        return
    print_wrapped(out, _bias(confirmation))
    if winner is None:
        out.print("every candidate diverged from some seed; confirm more of them with --top")
        return
    if confirmation.lead is not None:
        lead, error = confirmation.lead
        second = confirmation.candidates[1].trial.number
        chance = "; this may be chance" if confirmation.may_lead_by_chance else ""
        out.print(
            f"trial {winner.trial.number} leads trial {second} by {lead:.4f} ± {error:.4f} nats "
            f"(s.e.){chance}"
        )
        out.print(f"  it was selected as the best of {len(plan.trials)}, so expect a smaller lead")
    expected = f"; expect its mean, {winner.mean:.4f}" if plan.n_seeds > 1 else ""
    out.print(
        f"chosen: {winner.best.name}, dev loss {winner.best.dev_loss:.4f}{expected}",
        style="bold green",
    )
    print_warnings(out, advice)
    if looks:
        out.print("the test split of these words was already used:", style="yellow")
        print_looks(out, looks)
    else:
        out.print(f"test once:  mmsearch final-test{where}")


def _table(confirmation: Confirmation) -> Text:
    """Make a table of the candidates."""
    candidates, n_seeds = confirmation.candidates, confirmation.plan.n_seeds
    columns = [
        TableColumn(heading="trial", cells=[str(c.trial.number) for c in candidates]),
        TableColumn(heading="search", cells=[f"{c.trial.dev_loss:.4f}" for c in candidates]),
        TableColumn(heading="mean ± sd", cells=[_mean(c, n_seeds) for c in candidates]),
        TableColumn(
            heading="best",
            cells=[f"{c.best.dev_loss:.4f}" if c.repeats else "" for c in candidates],
            rank=1,
        ),
        *spec_columns([candidate.trial.spec for candidate in candidates]),
    ]
    winner = confirmation.winner
    return fitted_table(columns, ["bold green" if c is winner else None for c in candidates])


def _mean(candidate: Candidate, n_seeds: int) -> str:
    """Format the mean over the seeds, with their standard deviation."""
    if not candidate.repeats:
        return "all diverged" if candidate.n_failed == n_seeds else ""
    sd = "" if candidate.sd is None else f" ± {candidate.sd:.4f}"
    n = len(candidate.repeats)
    return f"{candidate.mean:.4f}{sd}" + (f" of {n}" if n < n_seeds else "")


def _bias(confirmation: Confirmation) -> str:
    """Return how much better the search's best trial scored there than from fresh seeds."""
    first = confirmation.plan.trials[0]
    candidate = next(c for c in confirmation.candidates if c.trial.number == first)
    gap = confirmation.flattery
    if gap is None:
        why = (
            "it diverged from a fresh seed"
            if candidate.n_failed
            else "it was trained for another number of steps"
        )
        return f"selection bias of trial {first}, the best of the search: unknown, as {why}"
    error = "" if candidate.standard_error is None else f" ± {candidate.standard_error:.4f}"
    return (
        f"trial {first}, the best of the search, scored {abs(gap):.4f}{error} nats "
        f"{'better' if gap >= 0 else 'worse'} in the search than its mean over fresh seeds"
    )


def to_json(confirmation: Confirmation) -> dict[str, Any]:
    """Return a confirmation as JSON values."""
    winner = confirmation.winner
    lead, error = confirmation.lead or (None, None)
    return {
        **confirmation.plan.to_json(),
        "n_missing": confirmation.n_missing,
        "candidates": [_candidate_json(candidate) for candidate in confirmation.candidates],
        "flattery": confirmation.flattery,
        "lead": lead,
        "lead_standard_error": error,
        "lead_may_be_chance": confirmation.may_lead_by_chance,
        "chosen": None
        if winner is None
        else {
            "trial": winner.trial.number,
            "nth_seed": winner.best.facts["nth_seed"],
            "dev_loss": winner.best.dev_loss,
        },
    }


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
