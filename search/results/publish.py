"""What of a study goes into MLflow: its facts, its summary, and the tracker that shows them."""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.search.results.export import write_model
from mmsearch.search.results.final_note import final_note
from mmsearch.search.results.optimism import Optimism
from mmsearch.search.results.selection import Confirmation, confirmations, find_model
from mmsearch.search.study import provenance
from mmsearch.search.study.config_file import differing
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.urls import artifacts_folder, ledger_folder, storage_url, tracking_uri
from mmsearch.search.study.workspace import own
from mmsearch.secrets import without_password
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.logs import logging_to
from mmsearch.tracking.journal.records import TrialState, counts_by_state, n_finished
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.ledger.user_file import UserLedger
from mmsearch.tracking.markdown import block, table
from mmsearch.tracking.mlflow.client import first_line
from mmsearch.tracking.mlflow.tracker import StudyFacts, StudyTracker
from mmsearch.tracking.study_summary import StudySummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mmsearch.search.study.settings import Settings
    from mmsearch.search.study.workspace import Workspace
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.ledger.record import Look
    from mmsearch.tracking.uploader import View

logger = logging.getLogger(__name__)

MIN_TRIALS_FOR_IMPORTANCE = 20
"""Complete trials below which importances are noise; docs/log.md has the measurement."""
MAX_LOOKS_SHOWN = 5
"""Looks in a study's note, the latest; MLflow cuts one of 8,000 characters."""


def make_tracker(workspace: Workspace, journal: Journal, file: StudyFile, uri: str) -> StudyTracker:
    """Make what shows a journal at an MLflow URI; connects to nothing yet."""
    return StudyTracker(
        uri=uri,
        facts=_facts(journal.name, file),
        kind=journal.kind,
        artifacts=artifacts_folder(workspace, uri),
        creating=partial(workspace.locked, "mlflow"),
    )


def summarise(
    journal: Journal,
    file: StudyFile,
    looks: Iterable[Look] | None = None,
    *,
    trials: Sequence[TrialRecord] | None = None,
    has_importances: bool = False,
) -> StudySummary:
    """Gather where a study stands.

    Args:
        journal: of its trials.
        file: the study's.
        looks: at its test split; None for those of the user's own ledger.
        trials: its trials; None to read them.
        has_importances: whether to tell those of its hyperparameters, which takes a second.

    What is wrong with the confirmation or the ledger stands in the summary: a search does not end
    without one.
    """
    dimensions = file.settings.space.dimensions
    trials = journal.records() if trials is None else trials
    counts = counts_by_state(trials)
    shares: Mapping[str, float] = {}
    if has_importances and counts[TrialState.COMPLETE] >= MIN_TRIALS_FOR_IMPORTANCE:
        from mmsearch.search.optimizer.importance import importances  # noqa: PLC0415 (Optuna is slow)

        shares = importances(trials, file.settings.space)
    sections: list[str] = []
    winner = None
    candidates = []
    baselines = None
    try:
        confirmation = Confirmation.read(journal)
        if confirmation is not None:
            winner = confirmation.winner
            candidates = [
                (of.trial.number, of.trial.dev_loss or math.nan, of.losses)
                for of in confirmation.candidates
            ]
            sections.append(_confirmation_note(confirmation))
        if looks is None:
            looks = UserLedger(ledger_folder()).read(file.split_fingerprint)
        sections += map(final_note, _own(looks, file)[-MAX_LOOKS_SHOWN:])
        baselines = journal.read_baselines()
    except MMSearchError as error:
        sections.append(f"**Damaged:** {error}")
    return StudySummary(
        trials=trials,
        importances=shares,
        log_axes=frozenset(name for name, dimension in dimensions.items() if dimension.log),
        is_done=n_finished(trials) >= file.n_trials and not counts[TrialState.RUNNING],
        candidates=candidates,
        remarks=_remarks(trials),
        sections=sections,
        tags={"mmsearch.chosen": winner.best.name} if winner else {},
        metrics={"confirmed_dev_loss": winner.mean} if winner else {},
        baselines=baselines,
    )


def _remarks(trials: Sequence[TrialRecord]) -> list[str]:
    """Return what is to be known about the best score, a paragraph of Markdown each."""
    optimism = str(Optimism.of(trials)).capitalize()
    why = (
        "the evaluation with the lowest loss on one half of dev has so much more on the other "
        "half. On all of dev, which is less noisy, expect about half of it."
    )
    return [f"{optimism}: {why}"] if optimism else []


def _confirmation_note(confirmation: Confirmation) -> str:
    """Say in Markdown what came of the fresh seeds."""
    plan = confirmation.plan
    missing = f" {confirmation.n_missing} trainings are missing." if confirmation.n_missing else ""
    rows = []
    for candidate in confirmation.candidates:
        cells = [f"{candidate.trial.number}", f"{candidate.trial.dev_loss:.4f}"]
        if candidate.repeats:
            sd = "" if candidate.sd is None else f"{candidate.sd:.4f}"
            cells += [f"{candidate.mean:.4f}", sd, f"{candidate.best.dev_loss:.4f}"]
        rows.append(cells + [""] * (5 - len(cells)))
    parts = [
        f"**Confirmed on dev: {plan.n_seeds} fresh seeds, {plan.steps:,} steps each.**{missing}",
        table(("trial", "search", "mean", "sd", "best seed"), rows),
    ]
    if confirmation.winner:
        parts.append(f"Chosen: {confirmation.winner.best.name}.")
    return "\n\n".join(parts)


def _own(looks: Iterable[Look], file: StudyFile) -> list[Look]:
    """Give the looks that a study took."""
    return [look for look in looks if look.study_id == file.id]


def show_look(tracker: StudyTracker, look: Look, file: StudyFile) -> None:
    """Show a look in MLflow, if it is this study's."""
    if look.study_id == file.id:
        MLflowLedger(tracker).write(look, n_words=file.n_words["test"], note=final_note(look))


def show_looks(
    tracker: StudyTracker,
    journal: Journal,
    file: StudyFile,
    looks: Iterable[Look],
    *,
    is_fresh: bool,
) -> None:
    """Show a study's looks in MLflow, and the model that it tested last as its champion.

    Args:
        tracker: open.
        journal: of the study's trials.
        file: the study's.
        looks: all at its test split.
        is_fresh: whether the last of them has just been taken.
    """
    from mmsearch.tracking.mlflow.registry import publish  # noqa: PLC0415 (slow; see store.connect)

    own = _own(looks, file)
    for look in own:
        show_look(tracker, look, file)
    tested = [look for look in own if look.result is not None]
    choice = find_model(journal, tested[-1].model_sha256) if tested else None
    if choice is None:
        return
    look = tested[-1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, choice, choice.journal.read_weights(choice.record), file)
        publish(
            tracker.client,
            experiment_id=tracker.experiment_id,
            run_id=MLflowLedger(tracker).run_id(look),
            folder=folder,
            registered_name=f"mmsearch-{look.study}",
            model_sha256=look.model_sha256,
            study_id=file.id,
            is_fresh=is_fresh,
            params=choice.record.spec.to_json(),
            description=final_note(look),
        )


def open_tracker(workspace: Workspace, journal: Journal, uri: str | None) -> StudyTracker:
    """Connect to where a study's MLflow is: `uri`, else the environment, else the study's own.

    Raises:
        MMSearchError: MLflow cannot be reached.
    """
    file = StudyFile.require(journal)
    settled = tracking_uri(workspace, uri, file.tracking_uri, file.id)
    tracker = make_tracker(workspace, journal, file, settled)
    with mlflow_at(settled):
        tracker.open()
    return tracker


def sync_study(workspace: Workspace, journal: Journal, storage: str | None, uri: str | None) -> int:
    """Fill the Optuna storage and MLflow in with the trials they lack, and with all test looks.

    Returns:
        How many trials were sent to either.

    Raises:
        RefusedError: the study is being searched; its own process fills both in.
        MMSearchError: MLflow or the Optuna storage cannot be reached.
    """
    from mmsearch.search.optimizer.optuna_view import OptunaView  # noqa: PLC0415 (likewise)
    from mmsearch.search.optimizer.storage import telling_errors  # noqa: PLC0415 (likewise)
    from mmsearch.search.results.claims import merge  # noqa: PLC0415 (Optuna is slow)

    file = StudyFile.require(journal)
    url = storage_url(workspace, storage, file.storage, file.id)
    with own(journal), logging_to(journal.folder / "logs", url, uri or ""):
        creating = partial(workspace.locked, "optuna")
        view = OptunaView(url, journal.name, file.id, file.settings.space, creating)
        sync = _Sync()
        away: MMSearchError | None = None
        try:
            with telling_errors(url), contextlib.closing(view):
                sync.fill(view, journal)
        except MMSearchError as error:
            away = error  # MLflow is filled all the same
        for part in (journal, confirmations(journal)):
            tracker = open_tracker(workspace, part, uri)
            with mlflow_at(tracker.uri):
                sync.fill(tracker, part)
                tracker.delete_doubles()
        split = file.split_fingerprint
        with mlflow_at(tracker.uri):
            shown = MLflowLedger(tracker).read(split)
        looks = merge([UserLedger(ledger_folder()).read(split), shown])
        if away is None:
            looks = _sync_looks(url, journal.name, file, looks)
        with mlflow_at(tracker.uri):
            show_looks(tracker, journal, file, looks, is_fresh=False)
            trials = [
                sync.records["trial", n] for n in journal.numbers() if n not in sync.unreadable
            ]
            tracker.show_study(summarise(journal, file, looks, trials=trials, has_importances=True))
        if away is not None:
            raise away
        if sync.failed:
            name, why = next(iter(sync.failed.items()))
            reason = str(why) if isinstance(why, MMSearchError) else first_line(why)
            raise JournalError(
                f"{len(sync.sent)} trials were sent; {len(sync.failed)} cannot be shown, the first "
                f"of them {name}: {reason}"
            )
        return len(sync.sent)


def _sync_looks(url: str, name: str, file: StudyFile, others: Sequence[Look]) -> Sequence[Look]:
    """Bring a study's looks into the Optuna storage; returns those of all stores."""
    from mmsearch.search.optimizer.optuna_view import REFILLED  # noqa: PLC0415 (likewise)
    from mmsearch.search.optimizer.storage import open_storage, telling_errors  # noqa: PLC0415 (likewise)
    from mmsearch.search.results.claims import OptunaLooks, merge  # noqa: PLC0415 (Optuna is slow)

    with telling_errors(url):
        opened = open_storage(url)
        try:
            central = OptunaLooks(opened)
            looks = merge([central.read(file.split_fingerprint), others])
            for look in looks:
                central.write(look)
            study_id = opened.get_study_id_from_name(name)
            opened.set_study_user_attr(study_id, REFILLED, False)  # noqa: FBT003 (Optuna's)
        finally:
            opened.remove_session()
            opened.engine.dispose()
    return looks


@dataclass(slots=True)
class _Sync:
    """What views have been brought up to date with."""

    sent: set[str] = field(default_factory=set)
    """Names of the trials that a view lacked."""
    failed: dict[str, Exception] = field(default_factory=dict)
    """Errors of the trials that cannot be shown, by their names."""
    records: dict[tuple[str, int], TrialRecord] = field(default_factory=dict)
    """What has been read, by kind and number."""
    unreadable: set[int] = field(default_factory=set)
    """Numbers of the damaged trials of the search."""

    def fill(self, view: View, journal: Journal) -> None:
        """Bring a view up to date with a journal."""
        view.open()
        records, damaged = {}, set()
        for number in journal.numbers():
            try:
                records[number] = journal.read(number)
                self.records[journal.kind, number] = records[number]
            except JournalError as error:
                damaged.add(number)
                self.failed.setdefault(f"{journal.kind} {number}", error)
        if journal.kind == "trial":
            self.unreadable = damaged
        for number in view.lacking(records.values(), damaged):
            record = records[number]
            try:
                view.show_trial(record, journal, is_idle=True)
                self.sent.add(record.name)
            except Exception as error:
                logger.info("%s could not be sent", record.name, exc_info=True)
                view.open()  # raises where the view is away, and not this trial at fault
                self.failed[record.name] = error


@contextlib.contextmanager
def mlflow_at(
    uri: str, next_step: str = "what is missing there can be filled in with: mmsearch sync"
) -> Iterator[None]:
    """Turn whatever MLflow raises into one line that names it and shows no password.

    Args:
        uri: where it is.
        next_step: what a person can do.

    Raises:
        MMSearchError: always of this kind.
    """
    try:
        yield
    except MMSearchError:
        raise
    except Exception as error:
        raise MMSearchError(
            f"MLflow at {without_password(uri)} does not answer as it should: "
            f"{first_line(error, uri)}; {next_step}"
        ) from error


def _facts(name: str, file: StudyFile) -> StudyFacts:
    tags = {
        "mmsearch.corpus": file.corpus_fingerprint,
        "mmsearch.split": file.split_fingerprint,
        **{f"mmsearch.version.{package}": v for package, v in provenance.versions().items()},
    }
    commit = provenance.git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit
    settings = file.settings.to_json()
    space = settings.pop("space")
    return StudyFacts(
        name=name,
        id=file.id,
        tags=tags,
        params={**settings, **{f"space.{key}": value for key, value in space.items()}},
        description=describe(name, file),
        words=_words(file),
        characters=tuple(file.vocabulary),
    )


def describe(name: str, file: StudyFile) -> str:
    """Say in Markdown what is searched."""
    settings = file.settings
    rows = [(f"`{n}`", f"{d}") for n, d in settings.space.dimensions.items()]
    return (
        f"Study `{name}`: a character MLP on {_words(file)}. Each trial trains "
        f"{settings.steps:,} planned steps of {_value(settings, 'batch_size')} "
        f"{_value(settings, 'targets')} by {_value(settings, 'optimizer')} "
        "and is scored on dev, in nats per character. "
        f"Sampler {settings.sampler}, pruner {settings.pruner}, seed {settings.seed}.\n\n"
        f"{table(('hyperparameter', 'searched'), rows)}\n\n{_again(name, file)}"
    )


def _value(settings: Settings, name: str) -> str:
    """Say a setting, or what of it is searched."""
    return f"{settings.space.dimensions.get(name) or getattr(settings, name)}"


def _words(file: StudyFile) -> str:
    """Name a study's corpus, and count its words."""
    sizes = ", ".join(f"{count:,} {part}" for part, count in file.n_words.items())
    # A path need not be UTF-8, and a database takes nothing else.
    corpus = (file.corpus or "the built-in names").encode("utf-8", "backslashreplace").decode()
    return f"{corpus} ({sizes} words; {len(file.vocabulary)} characters)"


def _again(name: str, file: StudyFile) -> str:
    """Say in Markdown what to type for the same search in a new workspace."""
    words = ["mmsearch", "run", "--trials", str(file.n_trials), "--study", name]
    if file.corpus:
        words += ["--corpus", file.corpus.encode("utf-8", "backslashreplace").decode()]
    config = differing(file.settings)
    if config:
        words += ["--config", f"{name}.toml"]
    parts = ["Search it anew, in a new workspace:", block(shlex.join(words))]
    if config:
        parts += [f"with `{name}.toml`:", block(config)]
    return "\n\n".join(parts)
