"""What of a study is published in MLflow: its runs, its test evaluations and its champion."""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.search.results.export import write_model
from mmsearch.search.results.final_note import final_note
from mmsearch.search.results.selection import find_model
from mmsearch.search.results.summary import describe, describe_words
from mmsearch.search.study import provenance
from mmsearch.search.study.study_file import StudyFile, unsaved_options
from mmsearch.search.study.urls import artifacts_folder, tracking_uri
from mmsearch.search.study.workspace import options_of
from mmsearch.secrets import without_password
from mmsearch.tracking.journal import files
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.mlflow.client import DataSet, first_line
from mmsearch.tracking.mlflow.local_database import UnusableDatabaseError
from mmsearch.tracking.mlflow.runs import StudyFacts
from mmsearch.tracking.mlflow.tracker import StudyTracker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mmsearch.search.study.workspace import Workspace
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.ledger.record import Look


def make_tracker(workspace: Workspace, journal: Journal, file: StudyFile, uri: str) -> StudyTracker:
    """Return the MLflow view of a journal, not connected yet."""
    return StudyTracker(
        uri=uri,
        facts=_facts(journal, file),
        kind=journal.kind,
        artifacts=artifacts_folder(workspace, uri),
        creating=partial(workspace.locked, "mlflow"),
    )


def open_tracker(workspace: Workspace, journal: Journal, uri: str | None) -> StudyTracker:
    """Connect to a study's MLflow: `uri`, else the environment's, else the study's own.

    Raises:
        MMSearchError: MLflow cannot be reached.
    """
    file = StudyFile.require(journal)
    settled = tracking_uri(workspace, uri, file.tracking_uri, file.id)
    tracker = make_tracker(workspace, journal, file, settled)
    with mlflow_at(settled, sync_later(journal, uri=uri)):
        tracker.open()
    return tracker


def show_looks(
    tracker: StudyTracker,
    journal: Journal,
    file: StudyFile,
    looks: Iterable[Look],
    *,
    is_fresh: bool = False,
) -> None:
    """Show a study's looks in MLflow, and register the model that it tested last as its champion.

    Args:
        tracker: an open tracker.
        journal: the study's journal.
        file: the study's file.
        looks: looks at its test split; those of other studies are skipped.
        is_fresh: whether the last of them has just been taken.
    """
    from mmsearch.tracking.mlflow.registry import publish  # noqa: PLC0415 (slow; see client.connect)

    own = [look for look in looks if look.study_id == file.id]
    runs = MLflowLedger(tracker)
    for look in own:
        runs.write(look, n_words=file.n_words["test"], note=final_note(look))
    tested = [look for look in own if look.result is not None]
    choice = find_model(journal, tested[-1].model_sha256) if tested else None
    if choice is None:
        return
    look = tested[-1]
    with files.scratch_folder() as scratch:
        folder = scratch / "model"
        weights = choice.journal.read_weights(choice.record)
        write_model(folder, choice.record.spec, weights, file.vocabulary)
        publish(
            tracker.client,
            experiment_id=tracker.experiment_id,
            run_id=runs.run_id(look),
            folder=folder,
            registered_name=f"mmsearch-{look.study}",
            model_sha256=look.model_sha256,
            study_id=file.id,
            is_fresh=is_fresh,
            params=choice.record.spec.to_json(),
            description=final_note(look),
        )


def sync_later(journal: Journal, storage: str | None = None, uri: str | None = None) -> str:
    """Return what to do about results that MLflow or the Optuna storage lacks.

    Args:
        journal: the study's journal.
        storage: URL of the Optuna storage if given.
        uri: MLflow's tracking URI if given.
    """
    options = options_of(journal) + unsaved_options(journal, storage, uri)
    return f"to add what is missing there later, run: mmsearch sync{options}"


@contextlib.contextmanager
def mlflow_at(uri: str, next_step: str) -> Iterator[None]:
    """Turn any MLflow error into one line that names the server and hides passwords.

    Args:
        uri: MLflow's tracking URI.
        next_step: what the user can do.

    Raises:
        MMSearchError: instead of any other error.
    """
    try:
        yield
    except UnusableDatabaseError as error:
        raise MMSearchError(error.what, hint=f"{error.hint}; {next_step}") from error
    except MMSearchError:
        raise
    except Exception as error:
        raise MMSearchError(
            f"MLflow at {without_password(uri)} failed: {first_line(error, uri)}", hint=next_step
        ) from error


def _facts(journal: Journal, file: StudyFile) -> StudyFacts:
    tags = {
        "mmsearch.corpus": file.corpus_fingerprint,
        "mmsearch.split": file.split_fingerprint,
        **{f"mmsearch.version.{package}": v for package, v in provenance.versions().items()},
        "mlflow.source.name": "mmsearch",
        "mlflow.source.type": "LOCAL",
    }
    if (user := provenance.user()) is not None:
        tags["mlflow.user"] = user
    commit = provenance.git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"] = commit
    settings = file.settings.to_json()
    space = settings.pop("space")
    return StudyFacts(
        name=journal.name,
        options=options_of(journal),
        id=file.id,
        tags=tags,
        params={**settings, **{f"space.{key}": value for key, value in space.items()}},
        description=describe(journal.name, file),
        words=describe_words(file),
        characters=tuple(file.vocabulary),
        datasets=[_dataset(file, part) for part in ("train", "dev")],
    )


def _dataset(file: StudyFile, part: str) -> DataSet:
    """Describe a part of a study's words, which its corpus and the seed of the split determine."""
    settings = file.settings
    source = {
        "corpus_fingerprint": file.corpus_fingerprint,
        "keep_duplicates": settings.keep_duplicates,
        "split_seed": settings.split_seed,
        "part": part,
    }
    digest = hashlib.sha256(json.dumps(source).encode()).hexdigest()
    return DataSet(part, digest, source, file.n_words[part])
