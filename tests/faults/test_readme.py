"""The README and the guide are run: every block, in order, and what they show is what comes.

Commands that would take long, or need what a test has not, are exchanged in `EXCHANGED`; blocks
that set up an environment are left to the long run. A block of another kind fails.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from mmsearch.search.study.settings import read_config
from tests.support.commands import environment
from tests.support.forked_cli import warm
from tests.support.mlflow_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.forked_cli import Warm

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "own-words.md").read_text()
PATIENCE_S = 120
SHORT = """
[training]
steps = 100
segments = 4
[space]
hidden_width = { low = 16, high = 32, log = true }
[search]
pruner = "none"
"""
EXCHANGED = {
    "mmsearch run --trials 50": "mmsearch run --trials 6 --config short.toml",
    "mmsearch ui": "mmsearch ui --no-browser --port {ui}",
    "mmsearch confirm": "mmsearch confirm --seeds 2",
    "mmsearch final-test --trial 34": "mmsearch final-test --trial 0",
    "mmsearch replay 34": "mmsearch replay 0",
    "mmsearch run --corpus stdlib.txt --trials 20": (
        "mmsearch run --corpus stdlib.txt --trials 4 --steps 50 --pruner none"
    ),
    "mmsearch lr-range": "mmsearch lr-range --steps 100 --seeds 2",
    "mlflow models serve -m models:/mmsearch-names@champion --env-manager local --port 5001": (
        "mlflow models serve -m models:/mmsearch-names@champion --env-manager local --port {serve}"
    ),
}
"""What is run in the place of a command; each stands in one of the pages, once."""
SET_UP = {
    "make run",
    "make test",
    "python3 -m venv .venv",
    ".venv/bin/python -m pip install -c constraints.txt --editable .",
    ".venv/bin/mmsearch run --trials 50",
    ".venv/bin/python -m pip install -c constraints.txt --editable '.[dev]'",
    '.venv/bin/python -m pytest -m "not fault and not long"',
}
"""What sets up an environment: run from a fresh clone, in the long run."""
EXIT_CODES = {"mmsearch final-test --trial 34": 3, "mmsearch corpus mixed.txt": 2}
"""Of what does not end with 0."""
SERVERS = {"mmsearch ui": "Ctrl-C ends it", "mlflow models serve": "Uvicorn running on"}
"""What serves until it is ended, and what it says once it does."""
INSTALLED = {"run", "ui", "trials"}
"""Commands that are run as they are installed; the others without their start-up (see `warm`)."""
VARIES = {
    r"(?m)^warning: .*\n(  .*\n)*": "",
    r"complete|pruned": "ended",
    r"\b[0-9a-f]{16}\b": "fingerprint",
    r"(?<=\d)\*": "",
    r"; that may be chance": "",
    r"flattered itself by|been unlucky by": "been off by",
    r"(\d+ h )?(\d+ min )?\d+ s\b": "#s",
    r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?": "#",
}
"""What may differ between two runs of a command, and what stands for it."""
WORDS = re.compile(r"^[a-z0-9_]+( \*)?$", re.MULTILINE)
"""Sampled words, one a line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    content: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Give its commands, each with the output that is shown for it."""
        found: list[tuple[str, str]] = []
        is_continued = False
        for line in self.content.splitlines():
            if is_continued:
                found[-1] = (f"{found[-1][0][:-1]} {line.strip()}", "")
            elif self.language == "console" and not line.startswith("$ "):
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
                continue
            elif line and not line.startswith("#"):
                found.append((line.removeprefix("$ "), ""))
            is_continued = line.endswith("\\")
        return [(shlex.join(shlex.split(c, comments=True)), out) for c, out in found]


def blocks(page: str) -> list[Block]:
    """Give a page's fenced blocks, in order."""
    return [Block(t.info, t.content) for t in MarkdownIt().parse(page) if t.type == "fence"]


def shape(output: str, *, is_words: bool) -> str:
    """Give an output without what may differ; a line may be broken anywhere."""
    if is_words:
        output = WORDS.sub("WORD", output)
    for pattern, stand_in in VARIES.items():
        output = re.sub(pattern, stand_in, output)
    return " ".join(output.split())


def difference(shown: str, real: str, *, is_words: bool) -> str:
    """Say how an output is not as it is shown; `...` stands for any; empty if it is."""
    parts = shape(shown, is_words=is_words).split("...")
    if re.fullmatch(".*?".join(map(re.escape, parts)), shape(real, is_words=is_words)):
        return ""
    return "\n".join(difflib.unified_diff(shown.splitlines(), real.splitlines(), lineterm=""))


class Terminal:
    """Runs commands one after another in one folder, as a person does in one terminal."""

    def __init__(self, folder: Path, servers: ExitStack, warm: Warm) -> None:
        self.folder = folder
        self._warm = warm
        self.env = environment(folder)
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self._servers = servers

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; its exit code and all that it printed."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.env[name] = value
            return 0, ""
        if command.startswith("curl "):
            return self._ask(shlex.split(command))
        until = next((word for start, word in SERVERS.items() if command.startswith(start)), None)
        if until is not None:
            return self._serve(command, until)
        words = shlex.split(command)
        if words[0] == "mmsearch" and words[1] not in INSTALLED:
            quick = self._warm(*words[1:], folder=self.folder)
            return quick.returncode, quick.stdout + quick.stderr
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout

    def python(self, code: str) -> tuple[int, str]:
        """Run a block of Python."""
        return self.run(shlex.join([sys.executable, "-c", code]))

    @staticmethod
    def _ask(words: list[str]) -> tuple[int, str]:
        """Do what curl would, which not every machine has."""
        url, header, body = words[1], words[words.index("-H") + 1], words[words.index("-d") + 1]
        name, _, value = header.partition(": ")
        request = urllib.request.Request(url, body.encode(), {name: value})  # noqa: S310 (loopback)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 (likewise)
            predictions = json.loads(answer.read())["predictions"]
        assert predictions[0]["nats_per_char"] > 0
        assert predictions[1]["continuation"].startswith("ma")
        return 0, ""

    def _serve(self, command: str, until: str) -> tuple[int, str]:
        """Start a server, wait until it answers, and end it with the test."""
        log = self.folder / f"{shlex.split(command)[0]}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._servers.callback(_end, process)
        deadline = time.monotonic() + PATIENCE_S
        while until not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return 0, log.read_text()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it has started."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Open a terminal in an empty folder."""
    (tmp_path / "short.toml").write_text(SHORT)
    (tmp_path / "mixed.txt").write_text("\n".join([f"word{n}" for n in range(13)] + ["a.b"]))
    with ExitStack() as servers, warm() as command:
        yield Terminal(tmp_path, servers, command)


def test_each_exchanged_command_stands_in_a_page_once() -> None:
    """A page that says something else is not run by an old table."""
    both = [*blocks(README), *blocks(GUIDE)]
    commands = [command for block in both for command, _ in block.commands]
    for command in [*EXCHANGED, *EXIT_CODES, *SET_UP]:
        assert commands.count(command) == 1, command


def failure(
    terminal: Terminal, ports: dict[str, int], command: str, shown: str | None
) -> list[str]:
    """Run a command as the tables above say, and tell how it is not as `shown`, if that is told."""
    if command in SET_UP:
        return []
    real = command
    if command in EXCHANGED:
        real = EXCHANGED[command].format(**ports)
    elif command.startswith("curl "):
        real = command.replace(":5001/", f":{ports['serve']}/")
    code, output = terminal.run(real)
    if code != EXIT_CODES.get(command, 0):
        return [f"$ {real}\nended with {code}:\n{output}"]
    is_words = command.startswith("mmsearch sample")
    differs = "" if shown is None else difference(shown, output, is_words=is_words)
    return [f"$ {real}\n{differs}"] if differs else []


@pytest.mark.parametrize("page", [README, GUIDE], ids=["README", "own-words"])
def test_every_block_of_a_page_runs_and_prints_what_it_shows(
    page: str, terminal: Terminal, tmp_path: Path
) -> None:
    """A newcomer who types it gets it."""
    ports = {"ui": free_port(), "serve": free_port()}
    failures = []
    for block in blocks(page):
        if block.language == "toml":
            (tmp_path / "search.toml").write_text(block.content)
            read_config(tmp_path / "search.toml")
            continue
        if block.language == "python":
            code, output = terminal.python(block.content)
            assert code == 0, output
            continue
        assert block.language in {"console", "sh"}, f"nobody runs a block of {block.language!r}"
        is_shown = block.language == "console"
        for command, shown in block.commands:
            failures += failure(terminal, ports, command, shown if is_shown else None)
    assert not failures, "\n\n".join(failures)


def test_other_output_is_not_taken_for_what_is_shown() -> None:
    """Numbers may differ, and a line's break; a word more or less may not."""
    shown = "best: trial 47, dev loss 2.0115\n  emb 20  lr 0.151\n"
    assert not difference(shown, "best: trial 3, dev loss 2.3\n  emb 5 lr 1e-05", is_words=False)
    for other in ("best: trial 3, loss 2.3\n  emb 5 lr 0.2\n", shown + "and more", ""):
        assert difference(shown, other, is_words=False)
    assert not difference("a\n...\nb 1\n", "a\nc\nd\nb 2\n", is_words=False)
    assert difference("a\n...\nb 1\n", "c\na\nb 2\n", is_words=False)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """What a page refers to, in or beside it, is there."""
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.resolve().is_relative_to(ROOT), target
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", there.read_text())
            slugs = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


@pytest.mark.long
def test_set_up_of_the_readme_works_in_a_fresh_clone(tmp_path: Path) -> None:
    """The two commands make an environment, search and test, and so do the lines without make."""
    clone, other = tmp_path / "make", tmp_path / "by-hand"
    env = {**environment(tmp_path), "PYTEST_ADDOPTS": "tests/test_layout.py -p no:cacheprovider"}
    env.pop("PYTHONPATH", None)
    for folder in (clone, other):
        subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    for block in blocks(README):
        for command, _ in block.commands if block.language == "sh" else ():
            if command not in SET_UP:
                continue
            words = shlex.split(command)
            if command == "make run":
                words.append("TRIALS=2")
            if command.endswith("--trials 50"):
                words[-1] = "2"
            folder = clone if words[0] == "make" else other
            done = subprocess.run(
                words, cwd=folder, env=env, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    for folder in (clone, other):
        assert (folder / "runs" / "names" / "study.json").exists()
