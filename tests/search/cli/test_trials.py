"""`mmsearch trials --watch` follows a search from another terminal, and disturbs nothing."""

import json
import os
import re
import signal
import time
from pathlib import Path

from tests.support.background_search import PATIENCE_S, Search
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.terminal import begin, read

WATCH = ("trials", "--watch")


def shown(terminal: int, pattern: str = "") -> str:
    """Read what a command writes to a terminal until the pattern, or else its end; no colours."""
    written, deadline = b"", time.monotonic() + PATIENCE_S
    while content := read(terminal):
        written += content
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", written.decode(errors="replace"))
        if pattern and re.search(pattern, text):
            return text
        assert time.monotonic() < deadline, text
    assert not pattern, text
    os.close(terminal)
    return text


def test_follows_a_search_to_its_end_and_may_be_left_before(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Counts, rows and the table; Ctrl-C leaves the search alone, and is not taken for its end."""
    words = ("--study", "few", "--corpus", small_corpus, "-n", 4, "--steps", 4000)
    search = Search(warm_command, tmp_path, *words, "--batch-size", 32, "--workers", 2)
    search.wait(1)

    process, terminal = begin(tmp_path, *WATCH)
    running = r"(?m)running(?s:.*)^trial +\d+  [▁-█]+ +\d\.\d{4}  step +[\d,]+  emb"
    assert "of 4 trials" in shown(terminal, running)
    with search.paused():
        process.send_signal(signal.SIGINT)
        text = shown(terminal)
    assert process.wait(PATIENCE_S) == 130
    assert "no longer watching" in text

    process, terminal = begin(tmp_path, *WATCH)
    text = shown(terminal)
    done = search.end()

    assert done.returncode == 0, done.stderr
    assert process.wait(PATIENCE_S) == 0
    assert "study 'few': 4 of 4 trials; its search has ended" in text
    last = "\n".join(text.splitlines()[-24:])  # what stands on the screen
    assert len(re.findall(r"(?m)^ +\d+  (?:complete|pruned) ", last)) >= 4


def test_trials_are_listed_best_first(searched: Path) -> None:
    """The table and its JSON agree, best first, within 80 columns."""
    table = run_in_process("trials", folder=searched).output.splitlines()
    rows = json.loads(run_in_process("trials", "--json", folder=searched).output)
    losses = [row["dev_loss"] for row in rows]
    assert losses == sorted(losses)
    assert len(losses) == 4
    assert f"{losses[0]:.4f}" in table[1]
    assert max(map(len, table)) <= 80


def test_without_a_terminal_it_prints_a_line_a_trial(copied: Path) -> None:
    """CI gets what `run` would have printed, a program gets JSON, and no file is changed."""
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}

    done = run_in_process(*WATCH, folder=copied)
    as_json = run_in_process(*WATCH, "--json", folder=copied)

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    assert len(re.findall(r"(?m)^trial +\d+  complete \d\.\d{4}", done.output)) == 4
    assert "study 'few': 4 of 4 trials; its search has ended" in done.output
    trials = [json.loads(line) for line in as_json.output.splitlines()]
    assert sorted(trial["trial"] for trial in trials) == [0, 1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_stopped_search_is_called_stopped(copied: Path) -> None:
    """Who waits for an end that nobody works at should know."""
    (copied / "runs/few/trials/0003/outcome.json").unlink()

    done = run_in_process(*WATCH, folder=copied, code=0)
    assert "study 'few': 3 of 4 trials; its search has stopped" in done.output
    assert "mmsearch run --trials 4 --study few" in done.output
