"""`mmsearch report`: a study as one HTML file, for someone without MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.search.results.summary import describe, summarise
from mmsearch.search.study.study_file import StudyFile
from mmsearch.secrets import without_password
from mmsearch.tracking import html_report
from mmsearch.tracking.figures import build
from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.records import TrialState, best_trial, counts_by_state, ranked
from mmsearch.tracking.markdown import escaped
from mmsearch.tracking.mlflow import notes

if TYPE_CHECKING:
    from pathlib import Path

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary

_FIGURES = {
    "confirmation": "What the search promised of its best trials, and what fresh seeds came to.",
    "history": "The dev loss of each trial, and the best so far.",
    "parallel_coordinates": "The complete trials: darker means a lower loss; the best is orange.",
    "trade_off": "The dev loss of complete trials against their parameters.",
    "importance": (
        "The share of the dev loss's variance that each hyperparameter explains alone, estimated "
        "by fANOVA from {n_complete} complete trials: read the order rather than the digits."
    ),
}


def write_report(journal: Journal, path: Path, top: int) -> None:
    """Write a study's report, with the figures of its best trials.

    Args:
        journal: of its trials.
        path: the HTML file; replaced if it is there.
        top: how many of the complete trials are drawn.

    Raises:
        InputError: the study has not begun.
        JournalError: a file is damaged, or the page cannot be written.
    """
    file = StudyFile.require(journal)
    summary = summarise(journal, file)
    counts = counts_by_state(summary.trials)
    best = best_trial(summary.trials)
    parts = [f"# {escaped(journal.name)}", describe(journal.name, file)]
    parts.append(
        notes.best_note(best, counts, summary.baselines) if best else "No trial is complete yet."
    )
    parts += [*summary.remarks, *summary.sections]
    with files.scratch_folder() as scratch:
        parts += _study_parts(summary, journal.name, scratch)
        for record in ranked(summary.trials)[:top]:
            parts += _trial_parts(record, journal, file, scratch)
    parts += ["## All trials", _trials_table(summary), "## How it was made", _origin(file)]
    html_report.write(path, f"{journal.name}: an mmsearch study", "\n\n".join(parts))


def _study_parts(summary: StudySummary, name: str, scratch: Path) -> list[str]:
    drawn = {path.stem: path for path in build.study_figures(summary, name, scratch)}
    n_complete = counts_by_state(summary.trials)[TrialState.COMPLETE]
    parts = ["## The search"] if drawn else []
    for stem, template in _FIGURES.items():
        if stem in drawn:
            text = template.format(n_complete=n_complete)
            parts += [text, html_report.picture(drawn[stem], text)]
    return parts


def _trial_parts(
    record: TrialRecord, journal: Journal, file: StudyFile, scratch: Path
) -> list[str]:
    weights = journal.read_weights(record)
    figures = build.trial_figures(record, weights, tuple(file.vocabulary), scratch)
    columns = shown_columns([record.spec])
    parts = [
        f"## {escaped(record.name.capitalize())}, dev loss {record.dev_loss:.4f}",
        *notes.losses_table(record),
        html_report.table([c.name for c in columns], [[c.text(record.spec, 4) for c in columns]]),
        *(html_report.picture(path, f"{record.name}: {path.stem}") for path in figures),
    ]
    samples = journal.read_samples(record.number)
    if samples:
        parts.append(f"Sampled from it: {', '.join(map(escaped, samples))}.")
    return parts


def _trials_table(summary: StudySummary) -> str:
    columns = shown_columns([trial.spec for trial in summary.trials])
    rows = [
        (
            str(record.number),
            record.state.lower(),
            "" if record.dev_loss is None else f"{record.dev_loss:.4f}",
            _train_loss(record),
            *(column.text(record.spec, 4) for column in columns),
            f"{record.facts['n_parameters']:,}",
            f"{record.wall_s:,.1f} s",
            record.outcome.reason if record.outcome else "",
        )
        for record in sorted(summary.trials, key=lambda trial: trial.rank)
    ]
    words = (column.name.replace("_", " ") for column in columns)
    headings = ("trial", "state", "dev loss", "train loss", *words, "parameters", "time", "reason")
    return html_report.table(headings, rows)


def _train_loss(record: TrialRecord) -> str:
    """Format the train loss of a trial's model; empty where it is unknown."""
    loss = record.scored.train_loss if record.scored else None
    return "" if loss is None else f"{loss:.4f}"


def _origin(file: StudyFile) -> str:
    """Say what the results follow from: settings, words and versions."""
    settings = file.settings.to_json()
    space = settings.pop("space")
    settings = {name: value for name, value in settings.items() if name not in space}
    places = {"storage": file.storage, "tracking URI": file.tracking_uri}
    rows = {
        **{name.replace("_", " "): str(value) for name, value in settings.items()},
        "corpus": file.corpus or "the built-in names",
        "corpus fingerprint": file.corpus_fingerprint,
        "split fingerprint": file.split_fingerprint,
        **{name: without_password(url) for name, url in places.items() if url},
        **file.versions,
    }
    return html_report.table(("what", "value"), list(rows.items()))
