"""With Optuna's storage restarting, away or locked, a search goes on and uploads later."""

import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mmsearch.errors import MMSearchError
from mmsearch.search.optimizer import storage
from mmsearch.search.optimizer.storage import open_storage
from tests.support.assertions import assert_same_everywhere
from tests.support.background_search import Search
from tests.support.fault_injection import hurried
from tests.support.forked_cli import Done, Warm
from tests.support.postgres import Postgres, postgres_server

HURRIED = hurried(0.1, 0.2)
N_TRIALS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Start the server of this module."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def local(small_corpus: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[object, ...]:
    """Return the arguments of a search named after the test, with trials of 20 segments."""
    config = tmp_path / "config.toml"
    config.write_text("[space]\nhidden_width = 32\n[search]\npruner = 'none'\n")
    name = re.sub(r"\W+", "-", request.node.name[len("test_") :]).strip("-")
    named = ("--corpus", small_corpus, "--config", config, "--study", name)
    return (*named, "--workers", 2, "-n", N_TRIALS, "--steps", 4000)


@pytest.fixture
def words(local: tuple[object, ...], server: Postgres) -> tuple[object, ...]:
    """Return those of a search on the server."""
    return (*local, "--storage", server.url)


def assert_done(done: Done, *, is_behind: bool) -> None:
    """Check that a search succeeded, and said once if Optuna's storage lacks something."""
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "Traceback" not in said
    assert f"{N_TRIALS} of {N_TRIALS} trials" in said
    n_away = said.count("Optuna's storage is unreachable")
    n_lacks = said.count("mmsearch sync")
    assert (n_away == n_lacks == 1) if is_behind else (n_away <= 1 and n_lacks == 0)


def test_server_that_restarts_costs_nothing(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A restart in the middle: the search ends as ever, with each trial once in both stores."""
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    search.wait(4)
    server.stop()
    server.start()

    assert_done(search.end(), is_behind=False)
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_server_that_is_stopped_for_a_whole_search_costs_it_nothing(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """`mmsearch sync` uploads each trial later; below, the next run does."""
    server.stop()
    try:
        search = Search(warm_command, tmp_path, *words, patch=HURRIED)
        done = search.end()
    finally:
        server.start()
    assert_done(done, is_behind=True)

    warm_command("sync", "--storage", server.url, folder=tmp_path, code=0)

    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_ctrl_c_while_the_server_is_away_ends_the_search_in_order(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """The user need not wait for a server that does not come back."""
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    search.wait(4)
    server.stop()
    try:
        search.interrupt(signal.SIGINT)
        done = search.end()
    finally:
        server.start()

    assert done.returncode == 130, done.stderr
    assert f"mmsearch run --trials {N_TRIALS}" in done.stdout
    warm_command("run", *words, folder=tmp_path, code=0)
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_locked_file_holds_nobody_up(
    local: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """An open transaction of another process does not stop a search."""
    search = Search(warm_command, tmp_path, *local, patch=HURRIED)
    search.wait(4)
    with closing(sqlite3.connect(tmp_path / "runs/optuna.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        search.wait(10)
        other.execute("ROLLBACK")

    assert_done(search.end(), is_behind=False)
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS)


@pytest.fixture
def silent() -> Iterator[int]:
    """Take connections and never answer; returns the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def test_silent_server_counts_as_away(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout, the driver would wait as long as the connection lives."""
    monkeypatch.setattr(storage, "_ANSWER_S", 2)

    with pytest.raises(MMSearchError):
        open_storage(f"postgresql+psycopg://me@127.0.0.1:{silent}/db")
