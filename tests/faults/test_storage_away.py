"""Optuna's storage restarts, stays away or is locked: a search goes on, and fills it in later."""

from __future__ import annotations

import re
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.assertions import assert_same_everywhere
from tests.support.background_search import Search
from tests.support.postgres import Postgres, postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

AWAY = "Optuna's storage is unreachable; the search continues and results are kept locally"
LACKS = "Some results are not in Optuna's storage yet; upload them with: mmsearch sync"
HURRIED = "from mmsearch.tracking import uploader as u; u.FLUSH_S = 0.1; u.RETRY_S = (0.2,)"
"""So that a search of seconds holds as many calls as one of minutes."""
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
    config.write_text("[space]\nhidden_width = 32\n[search]\npruner = 'none'\n")
    name = re.sub(r"\W+", "-", request.node.name[len("test_") :]).strip("-")
    named = ("--corpus", small_corpus, "--config", config, "--study", name)
    return (*named, "--workers", 2, "-n", N_TRIALS, "--steps", 4000)


@pytest.fixture
def words(local: tuple[object, ...], server: Postgres) -> tuple[object, ...]:
    """Give those of one on the server."""
    return (*local, "--storage", server.url)


def said_by(done: Done) -> str:
    """Check that a command succeeded; return what it printed, as one line."""
    assert (done.returncode, done.stderr) == (0, "")
    assert "Traceback" not in done.stdout
    said = re.sub(r"\s+", " ", done.stdout)
    assert f"{N_TRIALS} of {N_TRIALS} trials" in said
    return said


def test_server_that_restarts_costs_nothing(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A restart in the middle: the search ends as ever, with each trial once in both stores."""
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    search.wait(4)
    server.stop()
    server.start()

    said = said_by(search.end())

    assert said.count(AWAY) <= 1
    assert LACKS not in said
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


@pytest.mark.parametrize("fills", [("sync",), ("run",)], ids=["sync", "run"])
def test_server_that_is_stopped_for_a_whole_search_costs_it_nothing(
    server: Postgres,
    words: tuple[object, ...],
    warm_command: Warm,
    tmp_path: Path,
    fills: tuple[str, ...],
) -> None:
    """It was there for no trial, and holds each of them once it is filled in."""
    server.stop()
    try:
        search = Search(warm_command, tmp_path, *words, patch=HURRIED)
        said = said_by(search.end())
    finally:
        server.start()
    assert (said.count(AWAY), said.count(LACKS)) == (1, 1)

    storage = () if fills == ("sync",) else words
    done = warm_command(*fills, *storage, "--storage", server.url, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_server_that_goes_away_and_stays_away_is_filled_in_later(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """Half a trial in the storage becomes a whole one; it is told once what is behind."""
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    search.wait(4)
    server.stop()
    try:
        said = said_by(search.end())
    finally:
        server.start()
    assert (said.count(AWAY), said.count(LACKS)) == (1, 1)

    done = warm_command("run", *words, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_ctrl_c_while_the_server_is_away_ends_the_search_in_order(
    server: Postgres, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A person need not wait for a server that will not come back."""
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    search.wait(4)
    server.stop()
    try:
        search.interrupt(signal.SIGINT)
        done = search.end()
    finally:
        server.start()

    assert done.returncode == 130, done.stderr
    assert f"go on:    mmsearch run --trials {N_TRIALS}" in done.stdout
    done = warm_command("run", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS, storage=server.url)


def test_locked_file_holds_nobody_up(
    local: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """A person's open transaction in the workspace's own database does not stop a search."""
    search = Search(warm_command, tmp_path, *local, patch=HURRIED)
    search.wait(4)
    with closing(sqlite3.connect(tmp_path / "runs/optuna.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        search.wait(10)
        other.execute("ROLLBACK")

    said = said_by(search.end())

    assert said.count(AWAY) <= 1
    assert_same_everywhere(tmp_path / "runs", search.journal.name, N_TRIALS)
