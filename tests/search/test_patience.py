"""A storage that is away for a while costs a study nothing: no trial, no report, none twice."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
import pytest

from mmsearch.search import patience as patience_module
from mmsearch.search.patience import AwayError, Patience
from mmsearch.search.settings import Settings
from mmsearch.search.storage import open_storage
from mmsearch.search.study import StudyHandle
from tests.search.cuts import Wire, cut
from tests.search.postgres import Postgres, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N_TRIALS = 9
POINT = {"embedding_dim": 20.0, "hidden_width": 80.0, "block_size": 3.0, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Start the one server of this module, with tables: to make them takes as long as a study."""
    with postgres_server() as server:
        open_storage(server.url).engine.dispose()
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "WAITS_S", (0.0, 0.01))


@contextmanager
def open_study(
    url: str,
    name: str,
    patience: Patience | None = None,
    between: Callable[[], None] = lambda: None,
) -> Iterator[StudyHandle]:
    """Open a study as a search does; `between` is called when its storage is open."""
    patience = patience or Patience()
    storage = open_storage(url, patience)
    between()
    yield StudyHandle.open(
        storage, name, f"id-of-{name}", Settings(), must_exist=False, patience=patience
    )
    storage.engine.dispose()


def search(handle: StudyHandle) -> None:
    """Search as a coordinator does: a point enqueued, two trials at once, ended in every way."""
    handle.enqueue([POINT])
    running: list[int] = []
    for turn in range(N_TRIALS):
        number = handle.ask().number
        running.append(number)
        for step in (3000, 6000):
            handle.report(number, step, 2 + number / 100 + 1 / step)
            handle.should_prune(number)
        if len(running) == 2:
            state = ("COMPLETE", "PRUNED", "FAIL")[turn % 3]
            handle.tell(running.pop(0), state, 2.0 + turn / 100, "" if turn % 3 == 0 else "told")
    for number in running:
        handle.tell(number, "COMPLETE", 2.5)


def stored(url: str, name: str) -> list[dict[str, Any]]:
    """Read a study as a person with plain Optuna would: all but ids and times."""
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    storage.engine.dispose()
    keys = ("number", "state", "params", "values", "intermediate_values", "user_attrs")
    return [
        {key: getattr(trial, key) for key in (*keys, "system_attrs", "distributions")}
        for trial in trials
    ]


@pytest.mark.parametrize(("every", "loses"), [(4, "request"), (3, "answer"), (4, "answer")])
def test_broken_wire_makes_no_second_trial_and_loses_none(
    server: Postgres, folder: Path, every: int, loses: Literal["request", "answer"]
) -> None:
    """Whether a call had arrived when its connection broke, nobody is told; it counts once."""
    wire = Wire(server.socket, loses)
    name = f"cut-{every}-{loses}"
    begin = partial(setattr, wire, "every", every)
    with cut(wire, folder) as url, open_study(url, name, between=begin) as handle:
        search(handle)
        remembered = handle.study.get_trials()
    assert wire.n_cuts >= 10
    with open_study(server.url, name) as fresh:
        assert fresh.study.get_trials() == remembered

    with open_study(f"sqlite:///{folder}/optuna.db", name) as undisturbed:
        search(undisturbed)

    assert stored(server.url, name) == stored(f"sqlite:///{folder}/optuna.db", name)
    assert len(stored(server.url, name)) == N_TRIALS


def test_outage_is_said_once_and_over_when_the_server_is_back(server: Postgres) -> None:
    """A restart costs its seconds, and a person sees why nothing moves."""
    said: list[str] = []
    with open_study(server.url, "restarted", Patience(said.append)) as handle:
        handle.ask()
        server.stop()
        timer = threading.Timer(0.5, server.start)
        timer.start()
        handle.report(0, 3000, 2.0)
        timer.join()
        handle.tell(0, "COMPLETE", 2.0)

    (line,) = said
    assert line.startswith("the Optuna storage is away, and the search waits for it: ")
    (trial,) = stored(server.url, "restarted")
    assert (trial["values"], trial["intermediate_values"]) == ([2.0], {3000: 2.0})


def test_patience_ends(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stays away ends the search, and who cleans up after it waits no more."""
    monkeypatch.setattr(patience_module, "PATIENCE_S", 0.2)
    said: list[str] = []
    with open_study(server.url, "ended", Patience(said.append)) as handle:
        server.stop()
        try:
            for _ in range(2):
                with pytest.raises(AwayError):
                    handle.ask()
        finally:
            server.start()
    assert len(said) == 1


def test_stop_ends_the_wait(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is heard while the storage is away."""
    monkeypatch.setattr(patience_module, "PATIENCE_S", math.inf)
    patience = Patience(lambda _: timer.start())
    with open_study(server.url, "stopped", patience) as handle:
        timer = threading.Timer(0.1, handle.stop)
        server.stop()
        try:
            with pytest.raises(AwayError):
                handle.ask()
        finally:
            server.start()


def test_locked_file_is_waited_for(tmp_path: Path) -> None:
    """Another process's open transaction, of seconds, costs a search no more than those."""
    said: list[str] = []
    url = f"sqlite:///{tmp_path}/optuna.db"
    held = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None, check_same_thread=False)
    with closing(held) as other, open_study(url, "locked", Patience(said.append)) as handle:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(2.5, other.execute, ("ROLLBACK",))
        timer.start()
        search(handle)
        timer.join()

    assert said == ["the Optuna storage is away, and the search waits for it: database is locked"]
    assert len(stored(url, "locked")) == N_TRIALS
