"""A study opened and checked: its words, settings and databases."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import Words, split_corpus
from mmsearch.errors import InputError, RefusedError
from mmsearch.model.cost import COSTS
from mmsearch.search.study import provenance
from mmsearch.search.study.config_file import Config, read_config
from mmsearch.search.study.settings import check_setting, differences, settle
from mmsearch.search.study.study_file import StudyFile, keep_places, unsaved_options
from mmsearch.search.study.urls import absolute, check_apart, storage_url, tracking_uri
from mmsearch.search.study.workspace import Workspace, name_from
from mmsearch.secrets import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.tracking.journal.journal import Journal


_BUILTIN = "names"
"""Name of a study on the built-in names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The options that a study is opened with; None where an option was not given."""

    workspace: Path
    n_trials: int
    """Total number of finished trials, earlier runs included."""
    study: str | None = None
    corpus: Path | None = None
    config: Path | None = None
    given: Mapping[str, Any]
    """Settings given on the command line, by name."""
    storage: str | None = None
    tracking_uri: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An opened study; everything was checked, and nothing was written."""

    workspace: Workspace
    journal: Journal
    file: StudyFile
    corpus: Corpus
    split: Split
    enqueue: tuple[Mapping[str, Any], ...]
    """Configurations to try before the sampler's proposals."""
    given_storage: str | None
    """URL of the Optuna storage if given, with its password."""
    given_tracking_uri: str | None
    """MLflow tracking URI if given, with its password."""
    before: StudyFile | None = None
    """The study's file on disk when it was opened; None for a new study."""
    _saving: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, request: Request) -> Session:
        """Open a study and check everything that can be checked without writing.

        Raises:
            InputError: the corpus, the config file or an option cannot be used.
            RefusedError: the study was started with different words or settings.
        """
        session = cls._open(request)
        check_apart(session.storage, session.tracking_uri)
        return session

    @classmethod
    def _open(cls, request: Request, workspace: Workspace | None = None) -> Session:
        for setting, value in request.given.items():
            check_setting(setting, value)
        # Workspace.at checks every file in it, which need not be done twice.
        workspace = workspace or Workspace.at(request.workspace)
        name = request.study or _study_name(workspace, request.corpus)
        journal = workspace.journal(name)
        stored = StudyFile.read(journal)
        before = stored.settings if stored else None
        config = Config({})
        if request.config:
            config = read_config(request.config, request.given, before)
        given = {**config.settings, **request.given}
        settings = settle(given, before)
        enqueue = tuple(settings.space.check_point(point) for point in config.enqueue)
        path = request.corpus
        if path is None and stored is not None and stored.corpus is not None:
            path = Path(stored.corpus)
        corpus = read_corpus(path or BUILTIN_CORPUS, **settings.reading)
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
            costs=stored.costs if stored else COSTS,
        )
        if stored is not None:
            _check_same(name, stored, file, corpus, given)
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
        """URL of the Optuna storage, with its password.

        Raises:
            InputError: none was given, and the study's own has a password, which is not stored.
        """
        file = self.file
        return storage_url(self.workspace, self.given_storage, file.storage, file.id)

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI, with its password; raises the same errors as `storage`."""
        file = self.file
        return tracking_uri(self.workspace, self.given_tracking_uri, file.tracking_uri, file.id)

    def save(self) -> None:
        """Write the study's file, with the databases that it has; `keep` adds one that answered."""
        with self._saving:
            stored = StudyFile.read(self.journal)
            places = (stored.storage, stored.tracking_uri) if stored else (None, None)
            file = dataclasses.replace(self.file, storage=places[0], tracking_uri=places[1])
            self.journal.write_study(file.to_json())

    def keep(self, place: Literal["storage", "tracking_uri"]) -> None:
        """Store a database with the study, now that it has answered; may be called by any thread.

        Not before: its URL may be a typing error, and every later command would use it.
        """
        url = getattr(self.file, place)
        if url is not None:
            with self._saving:
                keep_places(self.journal, **{place: url})

    def unsaved_options(self) -> str:
        """Return the options for given databases that have not answered, for a later command."""
        return unsaved_options(self.journal, self.given_storage, self.given_tracking_uri)

    @property
    def words(self) -> Words:
        """The words that workers may see."""
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
        """Open an existing study with its stored words and settings.

        Its databases are checked when they are used, as not every command needs both.

        Raises:
            InputError: there is no such study, or its corpus is gone.
            RefusedError: its words have changed.
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


def _study_name(workspace: Workspace, corpus: Path | None) -> str:
    """Return the study to begin or resume where none is named: that of the words, or the only one.

    Raises:
        InputError: the workspace has several studies, none of them on the built-in names.
    """
    if corpus is not None:
        return name_from(corpus)
    names = workspace.studies()
    if _BUILTIN in names or not names:
        return _BUILTIN
    return workspace.existing(None).name


def _check_same(
    name: str, stored: StudyFile, file: StudyFile, corpus: Corpus, given: Mapping[str, Any]
) -> None:
    """Refuse to resume a study with different words or settings, and name each difference."""
    found = _other_words(stored, file, corpus)
    found += differences(stored.settings, file.settings, given)
    if not found and file.split_fingerprint != stored.split_fingerprint:
        found = ["its words are split differently"]
    if found:
        raise RefusedError(
            f"study {name!r} was started with different settings: {'; '.join(found)}",
            hint="resume with the original settings, or start a new study with --study",
        )


def _other_words(stored: StudyFile, file: StudyFile, corpus: Corpus) -> list[str]:
    """Describe how the words differ from the study's, apart from how the file is read."""
    if file.settings.reading != stored.settings.reading:
        try:
            corpus = read_corpus(file.corpus or BUILTIN_CORPUS, **stored.settings.reading)
        except InputError as error:
            return [f"other words: {error}"]
    if corpus.fingerprint == stored.corpus_fingerprint:
        return []
    before, now = (each.corpus or "the built-in names" for each in (stored, file))
    if before == now:
        return [f"the words of {now} have changed"]
    return [f"words of {before} (you asked for {now})"]
