"""A study opened and checked, and what `mmsearch run` does with it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import Words, split_corpus
from mmsearch.errors import RefusedError
from mmsearch.search.study import provenance
from mmsearch.search.study.settings import (
    Config,
    check_setting,
    differences,
    read_config,
    settle,
)
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.urls import absolute, storage_url, tracking_uri
from mmsearch.search.study.workspace import Workspace, name_from
from mmsearch.secrets import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.tracking.journal.journal import Journal


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a person asks of `mmsearch run`; None where nothing was said."""

    workspace: Path
    n_trials: int
    """Finished trials that the study shall have in all."""
    study: str | None = None
    corpus: Path | None = None
    config: Path | None = None
    given: Mapping[str, Any]
    """Settings said on the command line."""
    storage: str | None = None
    tracking_uri: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A study that may be searched: checked, but nothing written yet."""

    workspace: Workspace
    journal: Journal
    file: StudyFile
    corpus: Corpus
    split: Split
    enqueue: tuple[Mapping[str, Any], ...]
    """Configurations to try first."""
    given_storage: str | None
    """Optuna URL, password and all, where one was given."""
    given_tracking_uri: str | None
    """MLflow URI, likewise."""
    before: StudyFile | None = None
    """The study's file as it was; None where the study is new."""

    @classmethod
    def open(cls, request: Request) -> Session:
        """Check everything that can be checked without writing.

        Raises:
            InputError: the corpus, config or an option cannot be used.
            RefusedError: the study was started with other words or settings.
        """
        session = cls._open(request)
        _ = session.storage, session.tracking_uri  # to settle them is to check them
        return session

    @classmethod
    def _open(cls, request: Request, workspace: Workspace | None = None) -> Session:
        for setting, value in request.given.items():
            check_setting(setting, value)
        # To name a workspace is to check all that is in it: what was named already is not again.
        workspace = workspace or Workspace.at(request.workspace)
        name = request.study or (name_from(request.corpus) if request.corpus else "names")
        journal = workspace.journal(name)
        stored = StudyFile.read(journal)
        before = stored.settings if stored else None
        config = Config({})
        if request.config:
            config = read_config(request.config, request.given, before)
        settings = settle({**config.settings, **request.given}, before)
        enqueue = tuple(settings.space.check_point(point) for point in config.enqueue)
        path = request.corpus
        if path is None and stored is not None and stored.corpus is not None:
            path = Path(stored.corpus)
        corpus = read_corpus(path or BUILTIN_CORPUS, keep_duplicates=settings.keep_duplicates)
        split = split_corpus(corpus, settings.split_seed)
        places = [absolute(url) for url in (request.storage, request.tracking_uri)]
        storage, tracking = (without_password(url) if url else None for url in places)
        if stored is not None:
            storage, tracking = storage or stored.storage, tracking or stored.tracking_uri
        file = StudyFile(
            id=stored.id if stored else uuid.uuid4().hex,
            corpus=str(path.absolute()) if path else None,
            corpus_fingerprint=corpus.fingerprint,
            n_words={"train": len(split.train), "dev": len(split.dev), "test": len(split.test)},
            split_fingerprint=split.fingerprint,
            vocabulary="".join(corpus.vocabulary.characters),
            n_trials=request.n_trials,
            settings=settings,
            storage=storage,
            tracking_uri=tracking,
            versions=stored.versions if stored else provenance.versions(),
        )
        if stored is not None:
            _check_same(name, stored, file, corpus)
        return cls(
            workspace=workspace,
            journal=journal,
            file=file,
            corpus=corpus,
            split=split,
            enqueue=enqueue,
            given_storage=places[0],
            given_tracking_uri=places[1],
            before=stored,
        )

    @property
    def storage(self) -> str:
        """Optuna URL, password and all.

        Raises:
            InputError: none was given, and the study's own had a password, which is not stored.
        """
        file = self.file
        return storage_url(self.workspace, self.given_storage, file.storage, file.id)

    @property
    def tracking_uri(self) -> str:
        """MLflow URI, likewise."""
        file = self.file
        return tracking_uri(self.workspace, self.given_tracking_uri, file.tracking_uri, file.id)

    @property
    def words(self) -> Words:
        """What workers may see."""
        return Words(self.split.train, self.split.dev, self.corpus.vocabulary)

    @classmethod
    def reopen(
        cls,
        workspace: Workspace,
        study: str | None,
        *,
        storage: str | None = None,
        tracking_uri: str | None = None,
    ) -> Session:
        """Open a study that has begun, with the words and settings that it has.

        Its databases are settled when they are asked for: not every command needs both.

        Raises:
            InputError: there is no such study, or its corpus is gone.
            RefusedError: its words have changed since.
        """
        journal = workspace.existing(study)
        return cls._open(
            Request(
                workspace=workspace.root,
                n_trials=StudyFile.require(journal).n_trials,
                study=journal.name,
                given={},
                storage=storage,
                tracking_uri=tracking_uri,
            ),
            workspace,
        )


def _check_same(name: str, stored: StudyFile, file: StudyFile, corpus: Corpus) -> None:
    """Refuse to go on with other words or settings than a study was started with; says each."""
    found = _other_words(stored, file, corpus) + differences(stored.settings, file.settings)
    if not found and file.split_fingerprint != stored.split_fingerprint:
        found = ["its words are split otherwise now"]
    if found:
        raise RefusedError(
            f"study {name!r} was started otherwise: {'; '.join(found)}. "
            "To go on with it, give what it was started with; or name a new one with --study"
        )


def _other_words(stored: StudyFile, file: StudyFile, corpus: Corpus) -> list[str]:
    """Say how the words are others than the study's, apart from repeats that are kept or not."""
    kept = stored.settings.keep_duplicates
    if corpus.keep_duplicates != kept:
        corpus = read_corpus(file.corpus or BUILTIN_CORPUS, keep_duplicates=kept)
    if corpus.fingerprint == stored.corpus_fingerprint:
        return []
    before, now = (each.corpus or "the built-in names" for each in (stored, file))
    if before == now:
        return [f"the words of {now} have changed since"]
    return [f"its words are those of {before}, and {now} has others"]
