"""`mmsearch trials --watch` follows a search from another terminal, and disturbs nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pyte

from tests.support.background_search import PATIENCE_S, Search
from tests.support.terminal import begin, read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

WATCH = ("trials", "--watch")


class Terminal:
    """A command in a terminal of 80 columns and 24 lines, and what stands there."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.process, self._terminal = begin(folder, *words, TERM="xterm", NO_COLOR="1")

    def read(self) -> str | None:
        """Take in what it has written; None once it has ended."""
        content = read(self._terminal)
        if not content:
            return None
        self._stream.feed(content)
        return "\n".join(self._screen.display)

    def until(self, pattern: str) -> str:
        """Wait until that stands there."""
        deadline = time.monotonic() + PATIENCE_S
        while (text := self.read()) is not None:
            if re.search(pattern, text):
                return text
            assert time.monotonic() < deadline, text
        raise AssertionError("\n".join(self._screen.display))

    def end(self) -> tuple[int, str]:
        """Wait for its end; gives its exit code and what stands there."""
        while self.read() is not None:
            pass
        code = self.process.wait(PATIENCE_S)
        os.close(self._terminal)
        return code, "\n".join(self._screen.display)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Read all files of a folder, and when they were written."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_follows_a_search_to_its_end(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Counts, rows of running trials and the table, while another process searches."""
    words = ("--study", "few", "--corpus", small_corpus, "-n", 5, "--steps", 6000, "--workers", 2)
    search = Search(warm_command, tmp_path, *words)
    search.wait(1)

    seen = Terminal(tmp_path, *WATCH)
    text = seen.until(r"(?m)running(?s:.*)^trial +\d+  [▁-█]+ +\d\.\d{4}  step +[\d,]+  emb")
    assert re.search(r"of 5 trials", text)
    code, text = seen.end()
    done = search.end()

    assert done.returncode == 0, done.stderr
    assert code == 0
    assert "study 'few': 5 of 5 trials; its search has ended" in text
    assert len(re.findall(r"(?m)^ +\d+  (?:complete|pruned) ", text)) >= 5


def test_ended_search_is_shown_and_nothing_is_written(copied: Path) -> None:
    """A look from outside leaves every file as it was."""
    before = tree(copied)

    code, text = Terminal(copied, *WATCH).end()

    assert code == 0
    assert "study 'few': 4 of 4 trials; its search has ended" in text
    assert tree(copied) == before


def test_without_a_terminal_it_prints_a_line_a_trial(copied: Path, warm_command: Warm) -> None:
    """A log of CI gets what `run` would have printed there; a program gets JSON."""
    done = warm_command("trials", "--watch", folder=copied)
    as_json = warm_command("trials", "--watch", "--json", folder=copied)

    assert (done.returncode, as_json.returncode) == (0, 0), done.stderr + as_json.stderr
    assert len(re.findall(r"(?m)^trial +\d+  complete \d\.\d{4}", done.stdout)) == 4
    trials = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert sorted(trial["trial"] for trial in trials) == [0, 1, 2, 3]


def test_stopped_search_is_called_stopped(copied: Path, warm_command: Warm) -> None:
    """Who waits for an end that nobody works at should know."""
    (copied / "runs/few/trials/0003/outcome.json").unlink()

    done = warm_command("trials", "--watch", folder=copied)

    assert done.returncode == 0
    assert "study 'few': 3 of 4 trials; its search has stopped" in done.stdout
    assert "mmsearch run --trials 4 --study few" in done.stdout


def test_interrupted_before_the_end_it_says_so(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Ctrl-C leaves the search alone, and no script takes it for the search's end."""
    words = ("--study", "few", "--corpus", small_corpus, "-n", 2, "--steps", 20_000)
    search = Search(warm_command, tmp_path, *words, "--workers", 2)
    search.wait(1)

    seen = Terminal(tmp_path, *WATCH)
    seen.until("running")
    seen.process.send_signal(signal.SIGINT)
    code, text = seen.end()
    search.interrupt(signal.SIGINT)
    search.end()

    assert code == 130
    assert "no longer watching" in text
