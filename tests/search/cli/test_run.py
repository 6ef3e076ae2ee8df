"""`mmsearch run` as a person runs it: real processes, real databases, real signals."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest

from mmsearch.search.study.locks import own
from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.assertions import (
    assert_gone,
    assert_same_everywhere,
    children_of,
    curves,
    mlflow_runs,
    n_segments,
)
from tests.support.background_search import Search
from tests.support.commands import COMMAND, environment
from tests.support.fault_injection import SPAWN_WORKERS
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.terminal import begin, read

AGAIN = ("run", "--study", "few", "--workers", 1)


def test_run_leaves_each_trial_once_everywhere(copied: Path) -> None:
    """Four trials asked for are four in Optuna, four in MLflow and four in the workspace."""
    assert_same_everywhere(copied / "runs", "few", 4)


def test_run_prints_a_line_a_trial_and_the_next_commands(searched: Path) -> None:
    """Without a terminal the log is readable, fits 80 columns, and has no control sequence."""
    output = (searched / "printed.txt").read_text()
    assert len(re.findall(r"^trial +\d+  complete", output, re.MULTILINE)) == 4
    assert "4 of 4 trials (4 complete, 0 pruned, 0 failed)" in output
    assert re.search(r"(?m)^best: trial \d", output)
    assert "mmsearch ui --study few" in output
    assert "\x1b" not in output
    assert all(len(line) <= 80 for line in output.splitlines() if "/" not in line)


def test_more_trials_are_added_in_a_storage_that_is_found_from_anywhere(
    copied: Path, warm_command: Warm
) -> None:
    """`--trials` is the total; a study that moves to another database takes its trials along."""
    runs, other = copied / "runs", copied / "other"
    before = curves(runs, "few")
    again = warm_command(*AGAIN, "-n", 4, folder=copied, code=0)
    assert "already has 4 finished trials" in again.stdout
    assert curves(runs, "few") == before

    # A workspace with one study goes on with it, as for every other command.
    unnamed = warm_command("run", "-n", 4, folder=copied)
    assert "study 'few' already has 4 finished trials" in unnamed.stdout

    more = warm_command(*AGAIN, "-n", 5, "--storage", "sqlite:///mine.db", folder=copied)
    other.mkdir()
    done = warm_command(*AGAIN, "-n", 5, "--workspace", runs, folder=other)

    assert (more.returncode, done.returncode) == (0, 0), more.stderr + done.stderr
    assert_same_everywhere(runs, "few", 5, storage=f"sqlite:///{copied}/mine.db")
    assert {number: curves(runs, "few")[number] for number in before} == before
    assert not list(other.glob("*.db"))


def test_refused_storage_changes_nothing(copied: Path, warm_command: Warm) -> None:
    """A --storage with another study of this name is refused; the plain line still works."""
    path, url = copied / "runs/few/study.json", f"sqlite:///{copied}/other.db"
    before = path.read_bytes()
    other = optuna.create_study(study_name="few", storage=url)
    other.tell(other.ask(), 1.0)
    warm_command(*AGAIN, "-n", 4, "--storage", url, folder=copied, code=3)
    assert path.read_bytes() == before
    assert len(optuna.load_study(study_name="few", storage=url).trials) == 1
    warm_command(*AGAIN, "-n", 4, folder=copied, code=0)


def test_second_run_on_a_study_is_refused(copied: Path) -> None:
    """Two coordinators would ask and tell over each other."""
    with own(Journal(copied / "runs/few")):
        done = run_in_process(*AGAIN, "-n", 5, folder=copied)
    assert done.exit_code == 3
    assert f"pid {os.getpid()} on " in done.error


def resumable(corpus: Path) -> tuple[object, ...]:
    """Return the words of a search whose proposals follow from results, and which takes a while."""
    config = corpus.with_name("resumable.toml")
    config.write_text(
        f"[training]\nsegments = 4\n{plain_settings.TRAINING}[space]\nhidden_width = 32\n"
    )
    given = ("--study", "few", "--corpus", corpus, "--config", config, "--steps", 3000)
    return (*given, "-n", 5, "--workers", 1)


@pytest.mark.fault
@pytest.mark.usefixtures("hangups")
def test_stopped_search_goes_on_as_if_undisturbed(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """A closed terminal, Ctrl-C and `kill` leave no process, and change no number."""
    apart, words = tmp_path / "undisturbed", resumable(small_corpus)
    apart.mkdir()
    warm_command("run", *words, folder=apart, code=0)
    folder = tmp_path / "runs/few"

    process, terminal = begin(tmp_path, "run", *words, is_controlling=True)
    while n_segments(folder) < 2:
        assert read(terminal)  # the display goes on for as long as somebody reads it
    started = children_of(process.pid)
    os.close(terminal)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert_gone(started)

    for number in (signal.SIGINT, signal.SIGTERM):
        search = Search(warm_command, tmp_path, *words, patch=SPAWN_WORKERS)
        search.wait(1)  # early enough that segments are left for the next signal
        started = children_of(search.pid)
        os.killpg(search.pid, number)  # a terminal, timeout and systemd send it to workers, too
        done = search.end()
        assert_gone(started)
        assert done.returncode == 128 + number, done
        assert "mmsearch run --trials 5 --study few" in done.stdout + done.stderr

    warm_command("run", *words, folder=tmp_path, code=0)
    assert_same_everywhere(tmp_path / "runs", "few", 5)
    assert curves(tmp_path / "runs", "few") == curves(apart / "runs", "few")


@pytest.mark.fault
def test_only_a_signal_that_is_not_ignored_stops_a_search(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """A script ignores SIGINT for what runs in its background, and nohup ignores SIGHUP."""
    ignore = (
        "import signal\nfor n in (signal.SIGINT, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)"
    )
    patch = f"{SPAWN_WORKERS}\n{ignore}"
    search = Search(warm_command, tmp_path, *resumable(small_corpus), patch=patch)
    search.wait(1)
    for number in (signal.SIGINT, signal.SIGHUP):
        search.interrupt(number)
    search.wait(2)  # the first may have been in flight
    search.interrupt(signal.SIGTERM)
    assert search.end().returncode == 128 + signal.SIGTERM


def test_diverging_trials_fail_with_their_reason(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """A learning rate that always diverges ends the search, and not the night."""
    config = tmp_path / "config.toml"
    config.write_text(
        f"[space]\nlearning_rate = 1e30\nhidden_width = 32\n{plain_settings.SPACE}"
        f"[training]\nsteps = 200\nsegments = 2\n{plain_settings.TRAINING}"
    )
    words = ("run", "--corpus", small_corpus, "--config", config, "-n", 30, "--workers", 1)
    done = warm_command(*words, folder=tmp_path, code=1)
    assert "10 trials in a row failed" in done.stderr
    assert "mmsearch lr-range --study few" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    records = [r for r in Journal(tmp_path / "runs/few").records() if r.outcome]
    assert [record.state for record in records] == ["FAIL"] * 10
    assert all(re.search(r" at step \d+ of 200$", record.divergence) for record in records)
    _, _, children = mlflow_runs(tmp_path / "runs", "few")
    # The other lanes had begun with trials, too.
    assert {run.info.status for run in children} == {"FAILED", "SCHEDULED"}


def test_timeout_begins_no_more_trials(copied: Path, warm_command: Warm) -> None:
    """`--timeout` ends a search in order, and says how to go on."""
    done = warm_command(*AGAIN, "-n", 500, "--timeout", 0.1, folder=copied, code=0)
    assert re.search(r"^\d+ of 500 trials", done.stdout, re.MULTILINE)
    assert "the time was up" in done.stdout
    assert "mmsearch run --trials 500" in done.stdout
    again = warm_command(*AGAIN, "-n", 500, "--timeout", 0.1, "--json", folder=copied)
    assert json.loads(again.stdout)["ended_by"] == "timeout"


def test_study_that_is_not_named_is_the_only_one_or_that_of_the_built_in_names(
    copied: Path,
) -> None:
    """Several studies are listed, as by other commands; nothing is begun or changed."""
    runs = copied / "runs"
    shutil.copytree(runs / "few", runs / "more")
    for command in ("run", "trials"):
        done = run_in_process(command, folder=copied, code=2)
        assert "--study: few, more" in done.error
    shutil.copytree(runs / "few", runs / "names")
    done = run_in_process("run", "--steps", 50, folder=copied, code=3)
    assert "'names'" in done.error


def test_search_needs_neither_a_home_nor_a_terminal_in_its_environment(
    copied: Path, small_corpus: Path
) -> None:
    """As cron and systemd start it; the folders of other users' files are given, for the test."""
    kept = {name: environment(copied)[name] for name in ("PATH", "MPLCONFIGDIR")}
    env = {**kept, "MMSEARCH_LEDGER": str(copied / "ledger")}
    new = ("--study", "new", "--corpus", str(small_corpus), "-n", "1", "--steps", "40")
    for words in (("trials",), ("run", *new, "--workers", "1"), ("trials", "--study", "new")):
        done = subprocess.run(
            [COMMAND, *words], cwd=copied, env=env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
    assert_same_everywhere(copied / "runs", "new", 1)


def test_trials_that_a_person_enqueues_are_tried_or_named(copied: Path, warm_command: Warm) -> None:
    """Optuna's own queue works; a slip of the fingers in it costs a line and no study."""
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{copied}/runs/optuna.db")
    for value in ("abc", -1.0, 1e9):
        study.enqueue_trial({"learning_rate": value})
    study.enqueue_trial({"embedding_dim": 7})
    for _ in range(2):
        done = warm_command(*AGAIN, "-n", 5, folder=copied, code=0)
        assert done.stdout.count("an enqueued trial") == 3
    specs: list[Any] = [record.spec for record in Journal(copied / "runs/few").records()]
    assert specs[4].embedding_dim == 7
    for trial, spec in zip(study.get_trials(deepcopy=False), specs, strict=False):
        assert trial.params == {name: getattr(spec, name) for name in trial.params}


def test_clock_that_was_ahead_damages_nothing(copied: Path, warm_command: Warm) -> None:
    """Killed between a trial's last segment and its end, a search goes on, whatever time it is."""
    before = curves(copied / "runs", "few")
    path = copied / "runs/few/trials/0000/outcome.json"
    outcome = json.loads(path.read_text())
    path.write_text(json.dumps({**outcome, "ended_ms": outcome["ended_ms"] + 3_600_000}))
    (copied / "runs/few/trials/0003/outcome.json").unlink()

    warm_command(*AGAIN, "-n", 4, folder=copied, code=0)

    assert curves(copied / "runs", "few") == before
    assert_same_everywhere(copied / "runs", "few", 4)
