"""Optuna's storage restarts, stays away or is locked while a whole command searches in it."""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.search.postgres import Postgres, postgres_server
from tests.search.searches import Search
from tests.search.whole import assert_same_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.warm import Warm

PATCH = "from mmsearch.search import patience; patience.PATIENCE_S = "
AWAY = "the Optuna storage is away, and the search waits for it"
N_TRIALS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Start the one server of this module."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def local(small_corpus: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[object, ...]:
    """Give the words of a search of the test's own name, with trials of 20 short segments."""
    config = tmp_path / "config.toml"
    config.write_text("[space]\nhidden_width = 32\n")
    name = request.node.name[len("test_") : 40]
    named = ("--corpus", small_corpus, "--config", config, "--study", name)
    return (*named, "--workers", 2, "-n", N_TRIALS, "--steps", 4000)


@pytest.fixture
def words(local: tuple[object, ...], server: Postgres) -> tuple[object, ...]:
    """Give those of one on the server."""
    return (*local, "--storage", server.url)


def test_server_that_restarts_costs_nothing(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A restart of seconds, twice: the search ends as ever, with each trial once."""
    search = Search(warm_command, tmp_path, *words)
    for _ in range(2):
        search.wait(4)
        server.stop()
        time.sleep(1)
        server.start()
    done = search.end()

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(AWAY) in {1, 2}  # the second restart may meet its last moments
    assert f"{N_TRIALS} of {N_TRIALS} trials" in done.stdout
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


@pytest.mark.long
def test_server_that_stays_away_ends_the_search_in_order(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """Exit code 1, one line with what to type, and what it types goes on with every trial."""
    search = Search(warm_command, tmp_path, *words, patch=PATCH + "1")
    search.wait(4)
    server.stop()
    try:
        done = search.end()
    finally:
        server.start()
    kept = search.n_segments

    assert done.returncode == 1
    assert done.stdout.count(AWAY) == 1
    (line,) = done.stderr.replace("\n", " ").split("error: ")[1:]
    found = re.search(r"nothing is lost, and once it answers again mmsearch (run .*) goes on", line)
    assert found is not None, line
    assert kept >= 4
    done = warm_command(*shlex.split(found[1]), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


@pytest.mark.long
def test_ctrl_c_while_the_server_is_away_ends_the_search_in_order(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A person need not wait for a server that will not come back."""
    search = Search(warm_command, tmp_path, *words, patch=PATCH + "float('inf')")
    search.wait(4)
    server.stop()
    try:
        time.sleep(1)  # and by now it waits
        search.interrupt(signal.SIGINT)
        done = search.end()
    finally:
        server.start()

    assert done.returncode == 130, done.stderr
    assert f"go on:    mmsearch run --trials {N_TRIALS}" in done.stdout
    done = warm_command("run", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


@pytest.mark.long  # test_patience.py holds the same, within one process
def test_locked_file_costs_a_search_its_seconds(
    local: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A person's open transaction in the workspace's own database is waited for."""
    search = Search(warm_command, tmp_path, *local)
    search.wait(4)
    with closing(sqlite3.connect(tmp_path / "runs/optuna.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(3)
        other.execute("ROLLBACK")
    done = search.end()

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"{AWAY}: database is locked") == 1
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS)
