"""A full disk ends a search with its name, costs nothing written before, and is made room on.

Two ways to fill one: a small file system, where one can be mounted, and everywhere a limit on the
size of a file (`ulimit -f`), which the kernel refuses to write beyond as it does beyond a disk.
"""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.assertions import (
    assert_same_everywhere,
    curves,
    mlflow_runs,
    optuna_trials,
    start,
)
from tests.support.reference_studies import PATIENCE_S, SHORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

AT_LENGTH = pytest.mark.long


class Disk:
    """A folder that takes so many bytes, until there is more room."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder = folder
        self.way = way
        self.patch = ""
        """What a command must run to be on it."""

    def fill(self, n_bytes: int) -> None:
        """Let it take no more than that: in all where it is mounted, else in one file."""
        if self.way == "limit":
            limits = f"({n_bytes}, resource.RLIM_INFINITY)"
            self.patch = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, {limits})"
            return
        remount = "remount," if self.folder.is_mount() else ""
        size = ["-o", f"{remount}size={n_bytes}"]
        mount = ["mount", "-t", "tmpfs", *size, "tmpfs", str(self.folder)]
        try:
            done = subprocess.run(mount, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("this machine has no `mount`; the limit on files is tried all the same")
        if done.returncode:
            pytest.skip(f"no disk can be mounted, and a limit is tried alone: {done.stderr}")

    def make_room(self) -> None:
        """Let it take what comes."""
        self.patch = ""
        if self.way == "mounted":
            more = ["mount", "-o", "remount,size=50m", str(self.folder)]
            subprocess.run(more, check=True)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Give a disk; it is not full yet."""
    folder = tmp_path / "disk"
    folder.mkdir()
    yield Disk(folder, request.param)
    # This process may have read a database there, and holds it open.
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def assert_told(done: Done) -> str:
    """Hold that a command failed with one line; give that line."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def assert_beginning(folder: Path, expected: dict[int, Any]) -> int:
    """Hold that a journal has the beginning of each trial; give how many segments it has."""
    found = curves(folder / "runs", "few")
    for number, (spec, _, curve) in found.items():
        assert spec == expected[number][0]
        assert curve == expected[number][2][: len(curve)]
    return sum(len(curve) for _, _, curve in found.values())


@pytest.mark.parametrize(
    ("disk", "n_bytes"),
    [
        ("limit", 250_000),
        pytest.param("mounted", 300_000, marks=AT_LENGTH),
        pytest.param("limit", 60_000, marks=AT_LENGTH),  # while Optuna's database is made
        pytest.param("mounted", 60_000, marks=AT_LENGTH),
    ],
    indirect=["disk"],
)
def test_full_disk_is_named_and_the_same_line_goes_on_once_there_is_room(  # noqa: PLR0913, PLR0917 (fixtures)
    disk: Disk,
    tmp_path: Path,
    small_corpus: Path,
    warm_command: Warm,
    short: dict[int, Any],
    n_bytes: int,
) -> None:
    """What is short of room is named: the journal ends the search, a database is filled later."""
    words = ("run", *SHORT.words(tmp_path, small_corpus))
    disk.fill(n_bytes)
    done = warm_command(*words, folder=disk.folder, patch=disk.patch)
    if disk.way == "limit":  # no file of the journal is as large as a database
        assert (done.returncode, done.stderr) == (0, "")
        said = re.sub(r"\s+", " ", done.stdout)
        assert "Some results are not in MLflow yet" in said
    else:
        line = assert_told(done)
        assert str(disk.folder / "runs") in line
        assert re.search("disk is full|disk I/O error|No space left|File too large", line)
    n_segments = assert_beginning(disk.folder, short)
    # On a mounted one MLflow takes room, too: who finds it full first is chance.
    assert n_segments or disk.way == "mounted" or n_bytes == 60_000

    disk.make_room()
    done = warm_command(*words, folder=disk.folder)

    assert done.returncode == 0, done.stderr
    assert_same_everywhere(disk.folder / "runs", "few", SHORT.n_trials)
    assert curves(disk.folder / "runs", "few") == short


@pytest.mark.long
def test_journal_that_finds_the_disk_full_names_its_file(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Weights beyond what the disk takes end the search, and are written once there is room."""
    config = tmp_path / "wide.toml"
    config.write_text("[space]\nhidden_width = 3000\nblock_size = 5\n[training]\nsegments = 2\n")
    given = ("run", "--corpus", small_corpus, "--config", config, "--steps", 20)
    words = (*given, "-n", 1, "--workers", 1)
    disk = Disk(tmp_path, "limit")
    disk.fill(500_000)

    line = assert_told(warm_command(*words, folder=tmp_path, patch=disk.patch))

    weights = Journal(tmp_path / "runs/few").weights_path(0)
    assert f"'{weights}' cannot be written: File too large" in line
    assert warm_command(*words, folder=tmp_path).returncode == 0
    assert weights.stat().st_size > 500_000
    assert_same_everywhere(tmp_path / "runs", "few", 1)


@pytest.mark.long
@pytest.mark.parametrize("disk", ["limit", pytest.param("mounted", marks=AT_LENGTH)], indirect=True)
def test_full_mlflow_stops_no_search_and_is_filled_in(
    disk: Disk, tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """MLflow's database may be full before it is made and after: trials go on, and arrive later."""
    uri = f"sqlite:///{disk.folder}/mlflow.db"
    words = SHORT.words(tmp_path, small_corpus)
    sync = ("sync", "--tracking-uri", uri)
    disk.fill(700_000)
    for n_trials in (1, 2):
        given = ("run", *words, "--tracking-uri", uri, "-n", n_trials)
        done = warm_command(*given, folder=tmp_path, patch=disk.patch)
        assert done.returncode == 0, done
        assert "Traceback" not in done.stdout + done.stderr
        said = " ".join(done.stdout.split())
        assert "MLflow is unreachable; the search continues" in said
        assert f"({uri})" in said
        assert "upload them with: mmsearch sync" in said
        states = [trial.state.name for trial in optuna_trials(tmp_path / "runs", "few")]
        assert states == ["COMPLETE"] * n_trials
        disk.make_room()
        if n_trials == 1:
            assert warm_command(*sync, folder=tmp_path).returncode == 0
            disk.fill((disk.folder / "mlflow.db").stat().st_size)
    done = warm_command(*sync, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", "few", 2, tracking_uri=uri)


@pytest.mark.long
def test_mlflow_that_finds_room_again_catches_up_within_the_search(
    tmp_path: Path, small_corpus: Path
) -> None:
    """Whoever makes room while a search runs need not think of `mmsearch sync`."""
    config = tmp_path / "steady.toml"
    config.write_text(
        f"[space]\nhidden_width = 32\nlearning_rate = 0.1\n{plain_settings.SPACE}"
        f"[training]\nsegments = 2\n{plain_settings.TRAINING}"
    )
    # Long segments: Optuna's log is to stay below the limit.
    words = ("--corpus", small_corpus, "--config", config, "--steps", 20_000, "--workers", 1)
    process = start(tmp_path, *words, "-n", 500)  # it ends when we say so
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (700_000, unlimited))
    assert process.stdout is not None
    said = [process.stdout.readline()]
    while said[-1] and "MLflow is unreachable" not in said[-1]:
        said.append(process.stdout.readline())
    assert said[-1], said
    database = tmp_path / "runs/mlflow.db"
    assert not database.exists()

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    deadline = time.monotonic() + PATIENCE_S
    while not database.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130, output
    assert "mmsearch sync" not in output
    _, parents, children = mlflow_runs(tmp_path / "runs", "few")
    assert [run.info.status for run in parents] == ["KILLED"]
    states = [run.data.tags["mmsearch.state"] for run in children]
    assert states == [record.state for record in Journal(tmp_path / "runs/few").records()]
