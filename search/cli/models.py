"""The commands about one model: choose it, test it once, hear it, train it again, take it along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.search.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    QuietOption,
    StorageOption,
    StudyOption,
    TrackingOption,
    WorkersOption,
    WorkspaceOption,
    trial_numbers,
)
from mmsearch.search.display import printing
from mmsearch.search.execution.cores import n_cores
from mmsearch.search.study.workspace import Workspace, options_of

TrialOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Its number.",
        show_default="the chosen model",
        autocompletion=trial_numbers,
    ),
]


def confirm(  # noqa: PLR0913 (each is one flag)
    *,
    top: Annotated[int, typer.Option(min=1, help="Candidates: the best so many.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each.")] = 5,
    steps: Annotated[
        int | None, typer.Option(min=1, help="SGD steps.", show_default="the study's")
    ] = None,
    workers: WorkersOption = None,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tracking_uri: TrackingOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best trials again from fresh seeds, and choose the best mean, on dev.

    The best of many noisy scores flatters itself. The same line again goes on where it stopped.
    """
    from mmsearch.search.display.progress import Progress  # noqa: PLC0415
    from mmsearch.search.display.verdicts import (  # noqa: PLC0415
        confirmation_json,
        print_confirmation,
    )
    from mmsearch.search.execution.confirm_job import Confirm, make_plan  # noqa: PLC0415
    from mmsearch.search.execution.coordinator import Limits  # noqa: PLC0415
    from mmsearch.search.execution.interrupts import Interrupts  # noqa: PLC0415
    from mmsearch.search.execution.runner import opened, train  # noqa: PLC0415
    from mmsearch.search.results.advice import confirmation_advice  # noqa: PLC0415 (imports wait)
    from mmsearch.search.results.selection import Confirmation  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    session = Session.reopen(Workspace.at(workspace), study, tracking_uri=tracking_uri)
    plan = make_plan(session.journal, top, seeds, steps or session.file.settings.steps)
    job = Confirm(session, plan)
    console = printing.console()
    is_quiet = quiet or as_json
    with opened(job) as earlier:
        if not is_quiet:
            best = "trial" if len(plan.trials) == 1 else f"{len(plan.trials)} trials"
            console.print(
                f"study {session.journal.name!r}: the best {best}, "
                f"fresh seeds 1 to {plan.n_seeds} each, {plan.steps:,} steps, on dev"
            )
        done = [record for record in earlier if record.outcome]
        progress = Progress(console, job.n_trials, done, is_quiet=is_quiet, what="repeats")
        say = printing.console(stderr=True).print if as_json else progress.say
        interrupts = Interrupts(say)
        with progress:
            result = train(
                job,
                earlier,
                Limits(n_trials=job.n_trials),
                n_workers=workers or n_cores(),
                observers=(progress,),
                say=say,
                interrupts=interrupts,
            )
    confirmation = Confirmation.read(session.journal)
    assert confirmation is not None  # noqa: S101 (its plan has just been written)
    advice = confirmation_advice(session.journal, confirmation, session.file.settings.space)
    if as_json:
        printing.emit({**confirmation_json(confirmation), **advice.to_json()})
    else:
        looks = printing.known_looks(console, session.split.fingerprint)
        print_confirmation(console, confirmation, options_of(session.journal), looks, advice)
    if result.is_interrupted:
        raise typer.Exit(interrupts.exit_code)
    if confirmation.winner is None:
        raise typer.Exit(1)


def final_test(  # noqa: PLR0913 (each is one flag)
    *,
    trial: TrialOption = None,
    again: Annotated[
        str | None,
        typer.Option(help="Why the spent split is looked at once more.", metavar="REASON"),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Test it even if it does not beat bigram counts on dev."),
    ] = False,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the chosen model on the test split, once.

    Asked again for the same model, it gives the recorded number; for another, it refuses.
    """
    from mmsearch.search.display.verdicts import final_test_json, print_final_test  # noqa: PLC0415
    from mmsearch.search.results.final_evaluation import final_test as look  # noqa: PLC0415 (imports torch)
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    session = Session.reopen(
        Workspace.at(workspace), study, storage=storage, tracking_uri=tracking_uri
    )
    aside = printing.console(stderr=True)
    test = look(
        session, trial, again, lambda line: aside.print(line, style="yellow"), is_forced=anyway
    )
    if as_json:
        printing.emit(final_test_json(test))
    else:
        print_final_test(printing.console(), test)


def sample(  # noqa: PLR0913 (each is one flag)
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    trial: TrialOption = None,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, max=10**6, help="How many words.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws; the article's.")] = 2147483657,
    prefix: Annotated[str, typer.Option(help="What each word begins with.")] = "",
    temperature: Annotated[float, typer.Option(help="Below 1: likelier characters.")] = 1.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw new words from the chosen model; `*` marks those that stand in train."""
    from mmsearch.search.results.word_samples import sample_trial  # noqa: PLC0415 (imports torch)

    journal = Workspace.at(workspace).existing(study)
    drawn = sample_trial(journal, trial, count, seed=seed, prefix=prefix, temperature=temperature)
    if as_json:
        printing.emit(drawn)
        return
    console = printing.console()
    state = "" if drawn["state"] == "COMPLETE" else f" ({drawn['state'].lower()})"
    if quiet:
        for word in drawn["words"]:
            console.print(word["word"])
        return
    console.print(f"{drawn['model']}{state}, dev loss {drawn['dev_loss']:.4f}", style="dim")
    if drawn["note"]:
        console.print(drawn["note"], style="yellow")
    for word in drawn["words"]:
        marks = " *" if word["in_train"] else ""
        marks += f" (cut at {len(word['word'])} characters)" if word["is_cut"] else ""
        console.print(word["word"] + marks)


def replay(
    number: Annotated[
        int | None,
        typer.Argument(
            min=0,
            metavar="N",
            help="The trial's number.",
            show_default="the chosen model",
            autocompletion=trial_numbers,
        ),
    ] = None,
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Train a trial again from its stored spec, and compare with its record.

    Bit for bit on the same versions and processor, within a tolerance otherwise.
    """
    from mmsearch.search.display.verdicts import print_replay, replay_json  # noqa: PLC0415
    from mmsearch.search.execution.replay import TOLERANCE_NATS  # noqa: PLC0415 (imports torch)
    from mmsearch.search.execution.replay import replay as train_again  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    done = train_again(Session.reopen(Workspace.at(workspace), study), number)
    if as_json:
        printing.emit(replay_json(done))
    else:
        print_replay(printing.console(), done, TOLERANCE_NATS)
    if not done.is_reproduced:
        raise typer.Exit(1)


def export(  # noqa: PLR0913 (each is one flag)
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    *,
    trial: TrialOption = None,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the chosen model's weights, spec and vocabulary, for use without MLflow."""
    from mmsearch.search.results.export import write_model  # noqa: PLC0415 (imports wait for a command)
    from mmsearch.search.results.selection import choose  # noqa: PLC0415
    from mmsearch.search.study.study_file import StudyFile  # noqa: PLC0415

    journal = Workspace.at(workspace).existing(study)
    choice = choose(journal, trial)
    weights = choice.journal.read_weights(choice.record)
    write_model(folder, choice, weights, StudyFile.require(journal))
    if as_json:
        printing.emit(
            {
                "study": journal.name,
                "folder": str(folder),
                "model": choice.record.name,
                "trial": choice.record.number,
                "why": choice.why,
                "note": choice.unsettled,
            }
        )
        return
    console = printing.console()
    if quiet:
        console.print(str(folder))
        return
    if choice.unsettled:
        console.print(choice.unsettled, style="yellow")
    console.print(f"{choice.record.name} is in {str(folder)!r}: {choice.why}")


def report(  # noqa: PLR0913 (each is one flag)
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="HTML file.", show_default="STUDY.html"),
    ] = None,
    *,
    top: Annotated[int, typer.Option(min=0, help="Trials that are drawn: the best so many.")] = 5,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a study as one HTML page with its figures, for someone without MLflow."""
    from mmsearch.search.results.report import write_report  # noqa: PLC0415 (imports wait for a command)

    journal = Workspace.at(workspace).existing(study)
    target = path or Path(f"{journal.name}.html")
    write_report(journal, target, top)
    if as_json:
        printing.emit({"study": journal.name, "file": str(target)})
        return
    printing.console().print(
        str(target) if quiet else f"study {journal.name!r} is in {str(target)!r}"
    )
