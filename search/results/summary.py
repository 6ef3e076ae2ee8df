"""Where a study stands, as MLflow and the HTML report present it."""

from __future__ import annotations

import math
import shlex
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.counts import counted
from mmsearch.errors import MMSearchError
from mmsearch.search.results.final_note import final_note
from mmsearch.search.results.optimism import Optimism
from mmsearch.search.results.selection import Confirmation, read_extensions
from mmsearch.search.study.config_file import differing
from mmsearch.search.study.urls import ledger_folder
from mmsearch.tracking.journal.records import TrialState, counts_by_state, n_finished
from mmsearch.tracking.ledger.user_file import UserLedger
from mmsearch.tracking.markdown import block, table
from mmsearch.tracking.study_summary import StudySummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mmsearch.search.study.settings import Settings
    from mmsearch.search.study.space import Space
    from mmsearch.search.study.study_file import StudyFile
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.ledger.record import Look

MIN_TRIALS_FOR_IMPORTANCE = 20
"""Complete trials below which importances are noise; docs/log.md has the measurement."""
MAX_LOOKS_SHOWN = 5
"""The latest looks that a study's note shows; MLflow truncates a note at 8,000 characters."""


def summarise(
    journal: Journal,
    file: StudyFile,
    looks: Iterable[Look] | None = None,
    *,
    trials: Sequence[TrialRecord] | None = None,
) -> StudySummary:
    """Summarise a study.

    A damaged confirmation or ledger is described in the summary and does not stop it.

    Args:
        journal: the study's journal.
        file: the study's file.
        looks: looks at its test split; None to read the user's own ledger.
        trials: its trials; None to read them.
    """
    trials = journal.records() if trials is None else trials
    counts = counts_by_state(trials)
    sections: list[str] = []
    winner = None
    candidates = []
    baselines = None
    parents: dict[int, int] = {}
    try:
        parents = {r.number: r.facts["parent_trial"] for r in read_extensions(journal)}
        confirmation = Confirmation.read(journal)
        if confirmation is not None:
            winner = confirmation.winner
            candidates = [
                (c.trial.number, c.trial.dev_loss or math.nan, c.losses)
                for c in confirmation.candidates
            ]
            sections.append(_confirmation_note(confirmation))
        if looks is None:
            looks = UserLedger(ledger_folder()).read(file.split_fingerprint)
        own = [look for look in looks if look.study_id == file.id]
        sections += map(final_note, own[-MAX_LOOKS_SHOWN:])
        baselines = journal.read_baselines()
    except MMSearchError as error:
        sections.append(f"**Damaged:** {error}")
    dimensions = file.settings.space.dimensions
    return StudySummary(
        trials=trials,
        importances=partial(_importances, trials, file.settings.space),
        log_axes=frozenset(name for name, dimension in dimensions.items() if dimension.log),
        is_done=n_finished(trials) >= file.n_trials and not counts[TrialState.RUNNING],
        candidates=candidates,
        parents=parents,
        remarks=_remarks(trials),
        sections=sections,
        tags={"mmsearch.chosen": winner.best.name} if winner else {},
        metrics={"confirmed_dev_loss": winner.mean} if winner else {},
        baselines=baselines,
    )


def _importances(trials: Sequence[TrialRecord], space: Space) -> Mapping[str, float]:
    if counts_by_state(trials)[TrialState.COMPLETE] < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    from mmsearch.search.optimizer.importance import importances  # noqa: PLC0415 (Optuna is slow)

    return importances(trials, space)


def describe(name: str, file: StudyFile) -> str:
    """Describe in Markdown what a study searches and how to repeat it."""
    settings = file.settings
    rows = [(f"`{n}`", f"{d}") for n, d in settings.space.dimensions.items()]
    return (
        f"Study `{name}`: a character MLP on {describe_words(file)}. Each trial trains "
        f"{counted(settings.steps, 'planned step')} of {_value(settings, 'batch_size')} "
        f"{_value(settings, 'targets')} with {_value(settings, 'optimizer')} "
        "and is scored on dev, in nats per character. "
        f"Sampler {settings.sampler}, pruner {settings.pruner}, seed {settings.seed}.\n\n"
        f"{table(('hyperparameter', 'searched'), rows)}\n\n{_repeat(name, file)}"
    )


def describe_words(file: StudyFile) -> str:
    """Name a study's corpus and count its words."""
    sizes = ", ".join(f"{count:,} {part}" for part, count in file.n_words.items())
    corpus = _corpus(file) or "the built-in names"
    return f"{corpus} ({sizes} words; {counted(len(file.vocabulary), 'character')})"


def _remarks(trials: Sequence[TrialRecord]) -> list[str]:
    """Return paragraphs of Markdown on how far the best score can be trusted."""
    optimism = str(Optimism.of(trials)).capitalize()
    why = (
        "the gap between the two halves for the evaluation that is lowest on one of them. On all "
        "of dev, which is less noisy, expect about half of it."
    )
    return [f"{optimism}: {why}"] if optimism else []


def _confirmation_note(confirmation: Confirmation) -> str:
    """Describe in Markdown the results from fresh seeds."""
    plan = confirmation.plan
    missing = (
        f" {counted(confirmation.n_missing, 'training is', 'trainings are')} missing."
        if confirmation.n_missing
        else ""
    )
    rows = []
    for candidate in confirmation.candidates:
        cells = [f"{candidate.trial.number}", f"{candidate.trial.dev_loss:.4f}"]
        if candidate.repeats:
            sd = "" if candidate.sd is None else f"{candidate.sd:.4f}"
            cells += [f"{candidate.mean:.4f}", sd, f"{candidate.best.dev_loss:.4f}"]
        rows.append(cells + [""] * (5 - len(cells)))
    trained = f"{counted(plan.n_seeds, 'fresh seed')}, {counted(plan.steps, 'step')} each"
    parts = [
        f"**Confirmed on dev: {trained}.**{missing}",
        table(("trial", "search", "mean", "sd", "best seed"), rows),
    ]
    if confirmation.winner:
        parts.append(f"Chosen: {confirmation.winner.best.name}.")
    return "\n\n".join(parts)


def _value(settings: Settings, name: str) -> str:
    """Format a setting, or its range where it is searched."""
    return f"{settings.space.dimensions.get(name) or getattr(settings, name)}"


def _corpus(file: StudyFile) -> str:
    # A path need not be UTF-8, and databases accept nothing else.
    return (file.corpus or "").encode("utf-8", "backslashreplace").decode()


def _repeat(name: str, file: StudyFile) -> str:
    """Return in Markdown the command that repeats the search in a new workspace."""
    words = ["mmsearch", "run", "--trials", str(file.n_trials), "--study", name]
    if file.corpus:
        words += ["--corpus", _corpus(file)]
    config = differing(file.settings)
    if config:
        words += ["--config", f"{name}.toml"]
    parts = ["To repeat this search in a new workspace:", block(shlex.join(words))]
    if config:
        parts += [f"with `{name}.toml`:", block(config)]
    return "\n\n".join(parts)
