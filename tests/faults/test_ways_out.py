"""Wherever the output of a command goes, it ends with one line or in silence, and loses nothing."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import n_finished
from tests.support.commands import COMMAND, environment
from tests.support.drop_capabilities import UNPRIVILEGED
from tests.support.forked_cli import Command, Warm
from tests.support.terminal import begin, read
from tests.support.waiting import wait_until

PRINTING: tuple[tuple[object, ...], ...] = (
    ("--help",),
    ("trials",),
    ("trials", "--watch"),
    ("trials", "--json"),
    ("init", "new.toml"),
    ("sync",),
)
"""A command of each way to print: help, a table, lines, JSON, and words once work is done."""
SIZES = ("0", "-5", "1", "2", "100000", "abc", "", "²", "9" * 30, "1e3", "80 ")
SET_PIPE_SIZE = 1031
"""Linux's F_SETPIPE_SZ, which Python 3.10 lacks on some systems."""


@pytest.fixture
def place(copied: Path, small_corpus: Path) -> Path:
    """Return a folder with a searched workspace and its corpus."""
    shutil.copyfile(small_corpus, copied / "few.txt")
    return copied


def run(
    folder: Path, *words: object, before: str = "", is_limited: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command; `before` is Python that is run first, and `is_limited` drops root's rights.

    Matplotlib's folder is not shared with other tests then.
    """
    given = {"MMSEARCH_LEDGER": str(folder / "ledger")} | options.pop("env", {})
    env = environment(folder, given)
    command = [COMMAND]
    if before or is_limited:
        del env["MPLCONFIGDIR"]
        main = "import sys\nfrom mmsearch.search.cli.app import main\nmain()"
        script = folder / "start.py"
        code = f"{UNPRIVILEGED}\n{before}\n{main}".replace("\n", "\n    ")
        script.write_text(f"if __name__ == '__main__':\n    {code}\n")
        command = [sys.executable, str(script)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(
        [*command, *map(str, words)],
        cwd=folder,
        env=env,
        text=True,
        check=False,
        timeout=300,
        **options,
    )


def unread() -> int:
    """Return the writing end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def n_trials(folder: Path, study: str) -> int:
    """Count the finished trials of a study."""
    return n_finished(Journal(folder / "runs" / study).records())


@pytest.mark.parametrize("words", PRINTING, ids=str)
def test_full_output_is_one_line_and_a_closed_pipe_is_silence(
    place: Path, words: Sequence[object]
) -> None:
    """Both may come with the first line or with the last."""
    with Path("/dev/full").open("w") as full:
        done = run(place, *words, stdout=full)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "standard output" in done.stderr
    (place / "new.toml").unlink(missing_ok=True)

    writer = unread()
    done = run(place, *words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_error_goes_nowhere_where_stderr_is_full_or_closed(place: Path) -> None:
    """The exit code is what is left."""
    with Path("/dev/full").open("w") as full:
        assert run(place, "trials", "--study", "no", stderr=full).returncode == 2
        assert run(place, "trials", "--nonsense", stderr=full).returncode == 2
        assert run(place, "trials", stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_dev_null(place: Path, closed: str) -> None:
    """No file takes the number of one, and `--json` is not a traceback."""
    shell = f'"$@" {closed}'
    words = ("trials", "--json")
    done = subprocess.run(
        ["bash", "-c", shell, "bash", COMMAND, *words],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&- " not in f"{closed} ".replace("2>&-", ""))


@pytest.mark.parametrize("words", [("run", "--study", "new", "-n", 2), ("confirm", "--seeds", 1)])
@pytest.mark.parametrize("way", ["full", "unread"])
def test_work_goes_on_without_its_output(place: Path, words: Sequence[object], way: str) -> None:
    """It says so once; only a full output makes it a failure, as a reader may have read enough."""
    if words[0] == "run":
        words = (*words, "--corpus", "few.txt", "--steps", 40, "--pruner", "none")
    writer = os.open("/dev/full", os.O_WRONLY) if way == "full" else unread()
    done = run(place, *words, "--workers", 1, stdout=writer)
    os.close(writer)
    assert done.returncode == (1 if way == "full" else 0)
    assert done.stderr.count("\n") == 1
    assert "goes on" in done.stderr
    if words[0] == "run":
        assert n_trials(place, "new") == 2
    else:
        assert len(Journal(place / "runs/few", "confirm").records()) == 3


def test_search_outlives_a_terminal_that_is_closed_without_a_signal(place: Path) -> None:
    """Nothing can be written there any more."""
    words = ("run", "--study", "new", "--corpus", "few.txt", "-n", 2, "--steps", 40)
    process, terminal = begin(place, *words, "--workers", 1, "--pruner", "none")
    assert read(terminal)
    wait_until((place / "runs/new/trials").exists)  # and it is shown
    os.close(terminal)
    process.wait(120)
    assert n_trials(place, "new") == 2


def test_search_outlives_its_current_folder(place: Path) -> None:
    """Its last lines name the workspace, which has an absolute path."""
    gone, trial = place / "gone", place / "runs/new/trials/0000/curve.jsonl"
    gone.mkdir()
    typed = ("--workspace", place / "runs", "--corpus", place / "few.txt", "--workers", 1)
    words = ("run", "--study", "new", *typed, "-n", 2, "--steps", 400, "--pruner", "none")
    process = subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=gone,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(trial.exists)
    gone.rmdir()
    printed, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")
    assert f"mmsearch ui --study new --workspace {place / 'runs'}" in printed


def narrow_pipe() -> tuple[int, int]:
    """Return a pipe that takes less than a long help text."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, SET_PIPE_SIZE, 4096)
    return reader, writer


def test_pipe_that_does_not_block_gets_all_of_the_output(tmp_path: Path) -> None:
    """Some parents leave a pipe in that state, and a full one is an error then."""
    expected = run(tmp_path, "run", "--help").stdout
    assert len(expected.encode()) > 4096, "else the test could not fail"
    reader, writer = narrow_pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        [COMMAND, "run", "--help"], cwd=tmp_path, env=environment(tmp_path), stdout=writer
    )
    os.close(writer)
    time.sleep(2)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == expected
    assert process.wait() == 0


def test_signal_ends_a_command_whose_reader_does_not_read(tmp_path: Path) -> None:
    """What is left to print must not be waited for."""
    reader, writer = narrow_pipe()
    process = subprocess.Popen(
        [COMMAND, "run", "--help"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    time.sleep(3)
    assert process.poll() is None, "it waits for the reader"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    os.close(reader)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("\n") == 1


def test_odd_size_of_the_terminal_is_no_size(place: Path, warm_command: Warm) -> None:
    """Scripts and editors set these variables to anything."""
    sizes = [dict.fromkeys(("COLUMNS", "LINES", "TERMINAL_WIDTH"), size) for size in SIZES]
    for words in (("trials",), ("corpus", "few.txt"), ("--help",)):
        expected = warm_command(*words, folder=place, code=0)
        commands = [Command(words, place, env=tuple(each.items())) for each in sizes]
        assert warm_command.together(commands) == [expected] * len(SIZES)


def test_table_is_whole_in_a_narrow_terminal(place: Path, warm_command: Warm) -> None:
    """Cut-off numbers would be wrong numbers; a terminal wraps what is too wide."""
    wide, narrow = (
        warm_command("trials", folder=place, COLUMNS=columns).stdout.split("\n")[0:5]
        for columns in ("80", "30")
    )
    assert narrow == wide


def test_home_that_cannot_be_written_is_no_news(place: Path) -> None:
    """Matplotlib has its fonts elsewhere; the ledger cannot be elsewhere without being asked."""
    home = place / "home"
    home.mkdir(mode=0o555)
    env = {"HOME": str(home)}
    done = run(place, "figures", "drawn", is_limited=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")

    done = run(place, "final-test", "--anyway", is_limited=True, env=env | {"MMSEARCH_LEDGER": ""})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "MMSEARCH_LEDGER" in done.stderr


@pytest.mark.parametrize(
    "words", [("figures", "drawn"), ("report", "x.html"), ("replay", "--search", "--workers", 1)]
)
def test_no_temporary_folder_is_one_line(place: Path, words: Sequence[object]) -> None:
    """What needs one names the variable; other commands need none."""
    home = place / "home"
    home.mkdir(mode=0o555)
    before = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nowhere']"
    done = run(place, *words, before=before, is_limited=True, env={"HOME": str(home)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "TMPDIR" in done.stderr
    assert run(place, "trials", before=before, is_limited=True).returncode == 0


def test_numbers_and_nouns_agree_and_lines_fit_a_terminal(
    tmp_path: Path, warm_command: Warm
) -> None:
    """The smallest study has one of everything, and nothing to compare it with."""
    (tmp_path / "ten.txt").write_text("\n".join(f"{c}{c}ab" for c in "abcdefghij") + "\n")
    small = ("--corpus", "ten.txt", "--pruner", "none", "--steps", 20, "--workers", 1)
    said = ""
    for words in (
        ("run", "-n", 1, *small),
        ("run", "-n", 1, *small),
        ("confirm", "--top", 1, "--seeds", 1, "--workers", 1),
        ("trials",),
        ("corpus", "ten.txt"),
        ("losses",),
        ("sample", "-n", 1),
        ("replay",),
        ("replay", "--search", "--workers", 1),
        ("extend", 0, "--steps", 1),
        ("sync",),
        ("lr-range", "--corpus", "ten.txt", "--steps", 20, "--seeds", 1),
        ("final-test", "--anyway"),
        ("export", "model"),
    ):
        done = warm_command(*words, folder=tmp_path, code=0)
        assert done.stderr == "", words
        said += done.stdout
    assert said.count("nothing to compare") == 3
    assert not re.findall(r"^.*[ \t]$", said, re.MULTILINE)
    assert not [line for line in said.splitlines() if len(line) > 80]
    assert not re.findall(r"(?<![\d.,/-])1 (?:[a-z]+ )?[a-z]{3,}s\b", said), said


def test_hints_name_the_workspace_as_it_was_typed(place: Path, warm_command: Warm) -> None:
    """Without it they would be about another workspace; an absolute path is not what was typed."""
    (place / "runs").rename(place / "my runs")
    typed = ("--workspace", "../" + place.name + "/my runs")
    for words in (
        ("trials", "--study", "no"),
        ("replay", 99),
        ("sample", "--trial", 99),
        ("extend", 99, "--steps", 1),
        ("run", "--study", "few", "-n", 4),
        ("init", "defaults.toml"),
        ("init", "few.toml", "--study", "few"),
    ):
        done = warm_command(*words, *typed, folder=place)
        named = re.findall(r"mmsearch [a-z]+ .*", done.stdout + done.stderr)
        assert named, words
        assert all(line.endswith(f"--workspace '{typed[1]}'") for line in named), named
        known = warm_command(*words, folder=place, MMSEARCH_WORKSPACE=typed[1])
        assert "--workspace" not in known.stdout + known.stderr
