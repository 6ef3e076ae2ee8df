"""Every block of the README and the guide is run in order, and prints what the page shows.

Commands that would take long are replaced by those in `EXCHANGED`; blocks that set up an
environment are run in the long version only. A block of an unknown language fails.
"""

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
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mmsearch.search.study.config_file import read_config
from tests.support.commands import environment
from tests.support.forked_cli import Warm, warm
from tests.support.mlflow_server import free_port

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
    "mmsearch final-test --trial 49": "mmsearch final-test --trial 0",
    "mmsearch replay 49": "mmsearch replay 0",
    "mmsearch ui --all": "mmsearch ui --all --no-browser --port {all}",
    "mmsearch exclude 49 --reason 'too wide'": "mmsearch exclude 1 --reason 'too wide'",
    "mmsearch extend 49 --steps 1000": "mmsearch extend 0 --steps 20",
    "mmsearch run --corpus api.csv --column name --lower --boundary / --trials 20": (
        "mmsearch run --corpus api.csv --column name --lower --boundary / --trials 4 --steps 50 "
        "--pruner none"
    ),
    "mmsearch lr-range": "mmsearch lr-range --steps 100 --seeds 2",
    "mlflow models serve -m models:/mmsearch-names@champion --env-manager local --port 5001": (
        "mlflow models serve -m models:/mmsearch-names@champion --env-manager local --port {serve}"
    ),
}
"""What is run instead of a command; each command stands in the pages once."""
SET_UP = {
    "make run",
    "make test",
    "python3 -m venv .venv",
    ".venv/bin/python -m pip install -c constraints.txt --editable .",
    ".venv/bin/mmsearch run --trials 50",
    ".venv/bin/python -m pip install -c constraints.txt --editable '.[dev]'",
    ".venv/bin/python -m pytest -m 'not fault and not long'",
}
"""Commands that set up an environment; run in a fresh clone, in the long version."""
EXIT_CODES = {
    "mmsearch final-test --trial 49": 3,
    "mmsearch corpus api.csv": 2,
    "mmsearch corpus api.csv --column name": 2,
}
"""Commands that do not end with 0."""
SERVERS = {"mmsearch ui": "Ctrl-C", "mlflow models serve": "Uvicorn running on"}
"""Commands that serve until they are ended, and what they print once they answer."""
INSTALLED = {"run", "ui"}
"""Commands that are run as installed; the others skip their start-up (see `forked_cli`)."""
VARIES = {
    r"(?m)^warning: .*\n(  .*\n)*": "",
    r"complete|pruned": "ended",
    r"\b[0-9a-f]{16}\b": "fingerprint",
    r"(?<=\d)\*": "",
    r"; this may be chance": "",
    r"\b(better|worse)(?=\s+in\s)": "off",
    r"(\d+ h )?(\d+ min )?\d+ s\b": "#s",
    r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?": "#",
}
"""Patterns that may differ between two runs of a command, and their stand-ins."""
WORDS = re.compile(r"^[a-z0-9_.]+( \*)?$", re.MULTILINE)
"""Sampled words, one on each line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    content: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Return its commands, each with the output that the page shows."""
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
    """Return a page's fenced blocks, in order."""
    return [Block(t.info, t.content) for t in MarkdownIt().parse(page) if t.type == "fence"]


def shape(output: str, *, is_words: bool) -> str:
    """Normalise an output: what may differ is replaced, and line breaks do not count."""
    if is_words:
        output = WORDS.sub("WORD", output)
    for pattern, stand_in in VARIES.items():
        output = re.sub(pattern, stand_in, output)
    return " ".join(output.split())


def difference(shown: str, real: str, *, is_words: bool) -> str:
    """Compare an output with the page, where `...` stands for anything; empty if equal."""
    parts = shape(shown, is_words=is_words).split("...")
    if re.fullmatch(".*?".join(map(re.escape, parts)), shape(real, is_words=is_words)):
        return ""
    return "\n".join(difflib.unified_diff(shown.splitlines(), real.splitlines(), lineterm=""))


class Terminal:
    """Runs commands one after another in one folder, as a user does in one terminal."""

    def __init__(self, folder: Path, servers: ExitStack, warm: Warm) -> None:
        self.folder = folder
        self._warm = warm
        self.env = environment(folder)
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self._servers = servers

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; returns its exit code and all that it printed."""
        words = shlex.split(command)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.env[name] = value
            return 0, ""
        if words[0] == "curl":
            return self._ask(words)
        for server, ready in SERVERS.items():
            if command.startswith(server):
                return self._serve(words, ready)
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

    @staticmethod
    def _ask(words: list[str]) -> tuple[int, str]:
        """Do what curl would do, which not every machine has."""
        url, header, body = words[1], words[words.index("-H") + 1], words[words.index("-d") + 1]
        name, _, value = header.partition(": ")
        request = urllib.request.Request(url, body.encode(), {name: value})  # noqa: S310 (loopback)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 (likewise)
            predictions = json.loads(answer.read())["predictions"]
        assert predictions[0]["nats_per_char"] > 0
        assert predictions[1]["continuation"].startswith("ma")
        return 0, ""

    def _serve(self, words: list[str], ready: str) -> tuple[int, str]:
        """Start a server, wait until it answers, and end it with the test."""
        log = self.folder / f"{words[0]}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._servers.callback(_end, process)
        deadline = time.monotonic() + PATIENCE_S
        while ready not in log.read_text():
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
    """Open a terminal in a folder of its own."""
    (tmp_path / "short.toml").write_text(SHORT)
    with ExitStack() as servers, warm() as command:
        yield Terminal(tmp_path, servers, command)


def test_each_exchanged_command_stands_in_a_page_once() -> None:
    """When a page changes, the tables above must change with it."""
    both = [*blocks(README), *blocks(GUIDE)]
    commands = [command for block in both for command, _ in block.commands]
    for command in [*EXCHANGED, *EXIT_CODES, *SET_UP]:
        assert commands.count(command) == 1, command


def failure(
    terminal: Terminal, ports: dict[str, int], command: str, shown: str | None
) -> list[str]:
    """Run a command by the tables above; describes how the output differs from `shown`."""
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


@pytest.mark.parametrize(
    "page",
    # The guide's commands are the README's, on other words.
    [README, pytest.param(GUIDE, marks=pytest.mark.long)],
    ids=["README", "own-words"],
)
def test_every_block_of_a_page_runs_and_prints_what_it_shows(
    page: str, terminal: Terminal, tmp_path: Path
) -> None:
    """A newcomer who types the commands gets these outputs."""
    ports = {name: free_port() for name in ("ui", "all", "serve")}
    failures = []
    for block in blocks(page):
        if block.language == "toml":
            (tmp_path / "search.toml").write_text(block.content)
            read_config(tmp_path / "search.toml")
            continue
        if block.language == "python":
            command = shlex.join([sys.executable, "-c", block.content])
            code, output = terminal.run(command)
            assert code == 0, output
            continue
        assert block.language in {"console", "sh"}, f"no way to run a block of {block.language!r}"
        is_shown = block.language == "console"
        for command, shown in block.commands:
            failures += failure(terminal, ports, command, shown if is_shown else None)
    assert not failures, "\n\n".join(failures)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """Files and headings that a page refers to exist."""
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
    """Both ways, with make and without, set up an environment, search and test."""
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
