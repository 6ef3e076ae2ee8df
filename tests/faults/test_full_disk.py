"""A full disk ends a search with the name of the file, loses nothing, and may get room again.

A disk is filled in two ways: everywhere by a limit on the size of a file (`ulimit -f`), and in the
long version by a small file system, where one can be mounted.
"""

import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.assertions import assert_same_everywhere, curves, mlflow_runs, start
from tests.support.cli_contract import assert_told
from tests.support.forked_cli import Warm
from tests.support.reference_studies import PATIENCE_S, SHORT


def limited(n_bytes: int) -> str:
    """Return Python that lets a command write files of at most this size."""
    limits = f"({n_bytes}, resource.RLIM_INFINITY)"
    return f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, {limits})\n"


def check_beginning(folder: Path, expected: dict[int, Any]) -> int:
    """Check that a journal has the beginning of each trial; returns its number of segments."""
    found = curves(folder / "runs", "few")
    for number, (spec, _, curve) in found.items():
        assert spec == expected[number][0]
        assert curve == expected[number][2][: len(curve)]
    return sum(len(curve) for _, _, curve in found.values())


@pytest.mark.parametrize("n_bytes", [250_000, pytest.param(60_000, marks=pytest.mark.long)])
def test_full_database_stops_no_search(
    tmp_path: Path, small_corpus: Path, warm_command: Warm, short: dict[int, Any], n_bytes: int
) -> None:
    """No file of the journal is as large as a database: views that are full are filled in later.

    At the smaller limit Optuna's database is full while it is created.
    """
    words = ("run", *SHORT.words(tmp_path, small_corpus))
    done = warm_command(*words, folder=tmp_path, patch=limited(n_bytes))
    assert (done.returncode, done.stderr) == (0, "")
    assert "mmsearch sync" in " ".join(done.stdout.split())
    check_beginning(tmp_path, short)

    warm_command(*words, folder=tmp_path, code=0)

    assert_same_everywhere(tmp_path / "runs", "few", SHORT.n_trials)
    assert curves(tmp_path / "runs", "few") == short


def test_journal_on_a_full_disk_ends_the_search_and_goes_on_once_there_is_room(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Weights that do not fit end the search with their path, and are written by the next run."""
    config = tmp_path / "wide.toml"
    config.write_text("[space]\nhidden_width = 3000\nblock_size = 5\n[training]\nsegments = 2\n")
    given = ("run", "--corpus", small_corpus, "--config", config, "--steps", 20)
    words = (*given, "-n", 1, "--workers", 1)
    done = warm_command(*words, folder=tmp_path, patch=limited(500_000))
    weights = Journal(tmp_path / "runs/few").weights_path(0)
    assert done.returncode == 1
    assert_told(done)
    assert str(weights) in done.stderr

    warm_command(*words, folder=tmp_path, code=0)

    assert weights.stat().st_size > 500_000
    assert_same_everywhere(tmp_path / "runs", "few", 1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300000", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this machine has no `mount`; the limit on files is tried all the same")
    if done.returncode:
        pytest.skip(f"nothing can be mounted; the limit on files is tried alone: {done.stderr}")
    yield folder
    # Lazily, because this process may hold a database there open.
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@pytest.mark.long
def test_full_file_system_is_named_and_the_search_goes_on_once_there_is_room(
    disk: Path, tmp_path: Path, small_corpus: Path, warm_command: Warm, short: dict[int, Any]
) -> None:
    """The same where journal and databases share the room, and any of them may find it full."""
    words = ("run", *SHORT.words(tmp_path, small_corpus))
    done = warm_command(*words, folder=disk, code=1)
    assert_told(done)
    assert str(disk / "runs") in done.stderr
    check_beginning(disk, short)

    subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
    warm_command(*words, folder=disk, code=0)

    assert_same_everywhere(disk / "runs", "few", SHORT.n_trials)
    assert curves(disk / "runs", "few") == short


@pytest.mark.long
def test_mlflow_that_finds_room_again_catches_up_within_the_search(
    tmp_path: Path, small_corpus: Path
) -> None:
    """If there is room again while a search runs, `mmsearch sync` is not needed."""
    config = tmp_path / "steady.toml"
    config.write_text(
        f"[space]\nhidden_width = 32\nlearning_rate = 0.1\n{plain_settings.SPACE}"
        f"[training]\nsegments = 2\n{plain_settings.TRAINING}"
    )
    # Long segments, so that Optuna's log stays below the limit.
    words = ("--corpus", small_corpus, "--config", config, "--steps", 20_000, "--workers", 1)
    process = start(tmp_path, *words, "-n", 500)  # more than the test waits for
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (700_000, unlimited))
    assert process.stdout is not None
    printed = [process.stdout.readline()]
    while printed[-1] and "MLflow is unreachable" not in printed[-1]:
        printed.append(process.stdout.readline())
    assert printed[-1], printed
    database = tmp_path / "runs/mlflow.db"
    assert not database.exists()

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    deadline = time.monotonic() + PATIENCE_S
    while not database.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130, output
    assert "mmsearch sync" not in output
    _, parents, children = mlflow_runs(tmp_path / "runs", "few")
    assert [run.info.status for run in parents] == ["KILLED"]
    states = [run.data.tags["mmsearch.state"] for run in children]
    records = Journal(tmp_path / "runs/few").records()
    assert states == [record.state if record.outcome else "INTERRUPTED" for record in records]
