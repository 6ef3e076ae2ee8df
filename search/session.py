"""One `mmsearch run`: the study opened and checked, its parts started, joined and ended."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.errors import InputError, RefusedError
from mmsearch.search import provenance
from mmsearch.search.interrupts import Interrupts
from mmsearch.search.places import absolute, storage_url, tracking_uri, without_password
from mmsearch.search.settings import Config, Settings, differences, read_config
from mmsearch.search.study_file import StudyFile
from mmsearch.search.workspace import Workspace, name_from, own

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.search.coordinator import Limits, Observer, SearchResult
    from mmsearch.tracking.journal import Journal


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
    enqueue: tuple[Mapping[str, float], ...]
    """Configurations to try first."""
    storage: str
    """Optuna URL, password and all."""
    tracking_uri: str
    """MLflow URI, password and all."""

    @classmethod
    def open(cls, request: Request) -> Session:
        """Check everything that can be checked without writing.

        Raises:
            InputError: the corpus, config or an option cannot be used.
            RefusedError: the study was started with other words or settings.
        """
        config = read_config(request.config) if request.config else Config({})
        given = {**config.settings, **request.given}
        workspace = Workspace.at(request.workspace)
        name = request.study or (name_from(request.corpus) if request.corpus else "names")
        journal = workspace.journal(name)
        stored = StudyFile.read(journal)
        settings = dataclasses.replace(stored.settings if stored else Settings(), **given)
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
        if settings.sampler == "cmaes" and storage is not None:
            raise InputError(
                "--sampler cmaes keeps pickles in its storage, so it is for the workspace's own "
                "alone; leave out --storage, or take another sampler"
            )
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
            _check_same(name, stored, file, given)
        return cls(
            workspace=workspace,
            journal=journal,
            file=file,
            corpus=corpus,
            split=split,
            enqueue=enqueue,
            storage=storage_url(workspace, places[0], file.storage),
            tracking_uri=tracking_uri(workspace, places[1], file.tracking_uri),
        )

    def search(
        self,
        limits: Limits,
        *,
        n_workers: int,
        observers: tuple[Observer, ...],
        say: Callable[[str], None],
    ) -> SearchResult:
        """Search the study until `limits`, in worker processes, shown in MLflow as it goes.

        Args:
            limits: when to end.
            n_workers: processes, one torch thread each.
            observers: told of every trial's news.
            say: told, in a line, what a person should know.

        Raises:
            MMSearchError: the search cannot begin or go on; says why.
        """
        self.workspace.create()
        self.journal.create()
        with own(self.journal), contextlib.ExitStack() as stack:
            return self._search(limits, n_workers, observers, say, stack)

    def _n_wanted(self, n_workers: int) -> int:
        """Count the workers that there is work for, as far as the journal knows."""
        states = [record.state for record in self.journal.records()]
        n_finished = states.count("COMPLETE") + states.count("PRUNED")
        n_left = max(self.file.n_trials - n_finished, states.count("RUNNING"))
        return min(n_workers, n_left)

    def _search(
        self,
        limits: Limits,
        n_workers: int,
        observers: tuple[Observer, ...],
        say: Callable[[str], None],
        stack: contextlib.ExitStack,
    ) -> SearchResult:
        # Imported once the workers are on their way: each of these takes a good part of a second.
        from mmsearch.search import worker  # noqa: PLC0415
        from mmsearch.search.executors import WorkerPool  # noqa: PLC0415

        interrupts = stack.enter_context(Interrupts(say))
        n_wanted = self._n_wanted(n_workers)
        n_workers = max(1, n_wanted)
        words = worker.Words(self.split.train, self.split.dev, self.corpus.vocabulary)
        pool = stack.enter_context(WorkerPool(n_workers, worker.start, (words,)))
        if n_wanted:
            pool.start()
        from mmsearch.search.shown import make_tracker, summarise  # noqa: PLC0415
        from mmsearch.tracking.mirror import Mirror  # noqa: PLC0415

        name = self.journal.name
        mirror = Mirror(
            make_tracker(self.workspace, name, self.file, self.tracking_uri),
            self.journal,
            on_behind=lambda why: say(f"MLflow is behind, and the search goes on: {why}"),
        )
        from mmsearch.search.coordinator import Coordinator  # noqa: PLC0415
        from mmsearch.search.study import (  # noqa: PLC0415
            StudyHandle,
            open_storage,
            telling_errors,
        )

        with self.workspace.locked("optuna"):
            handle = StudyHandle.open(
                open_storage(self.storage),
                name,
                self.file.id,
                self.file.settings,
                must_exist=bool(self.journal.numbers()),
            )
        # Only now is the study this one: a refused storage must not be what it is known by.
        self.journal.write_study(self.file.to_json())
        handle.enqueue(self.enqueue)
        mirror.start()
        pool.check()
        coordinator = Coordinator(
            handle=handle,
            settings=self.file.settings,
            journal=self.journal,
            executor=pool,
            run_segment=worker.run_segment,
            vocab_size=self.corpus.vocabulary.size,
            n_workers=n_workers,
            observers=(mirror, *observers),
        )
        try:
            interrupts.phase(coordinator.stop, "stopping after the segments in flight")
            with telling_errors(self.storage):
                result = coordinator.run(limits)
        finally:
            summary = summarise(self.journal, self.file, handle.importances())
            interrupts.phase(mirror.abandon, "leaving MLflow as it is")
            if not mirror.close(summary):
                say("MLflow lacks a part of this study; fill it in with: mmsearch sync")
        return result


def _check_same(name: str, stored: StudyFile, file: StudyFile, given: Mapping[str, Any]) -> None:
    """Refuse to go on with other words or settings than a study was started with."""
    found = differences(stored.settings, given)
    if not found and file.corpus_fingerprint != stored.corpus_fingerprint:
        before, now = (each.corpus or "the built-in names" for each in (stored, file))
        found = [
            f"the words of {now} have changed since"
            if before == now
            else f"its words are those of {before}, and {now} has others"
        ]
    if found:
        raise RefusedError(
            f"study {name!r} was started otherwise: {'; '.join(found)}. "
            "To go on with it, give what it was started with; or name a new one with --study"
        )
