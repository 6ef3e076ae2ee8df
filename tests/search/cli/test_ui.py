"""`mmsearch ui`: it serves until it is ended, and opens a page in a window or not at all."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.commands import COMMAND, environment

if TYPE_CHECKING:
    from pathlib import Path

OPEN = "from mmsearch.search.cli.ui import open_page; print(open_page('http://127.0.0.1:9/#/x'))"


def opened(folder: Path, installed: str, **env: str) -> tuple[str, bool]:
    """Open a page where one browser is installed; returns what was said, and whether it started."""
    program = folder / installed
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/started\n')
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", OPEN],
        env={"PATH": f"{folder}:/nowhere", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.strip()
    deadline = time.monotonic() + (4 if said == "True" else 0)
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return said, (folder / "started").exists()


@pytest.mark.parametrize("name", ["www-browser", "links", "elinks", "lynx", "w3m"])
def test_text_browser_is_not_started(tmp_path: Path, name: str) -> None:
    """The command would wait for it, and its links would be overwritten."""
    assert opened(tmp_path, name, TERM="xterm") == ("False", False)


def test_text_browser_that_is_the_users_choice_is_not_started(tmp_path: Path) -> None:
    """A person who reads mail in a terminal has named it for other programs."""
    assert opened(tmp_path, "lynx", TERM="xterm", BROWSER=f"{tmp_path}/lynx") == ("False", False)


@pytest.mark.parametrize(
    ("name", "env"), [("firefox", {"DISPLAY": ":7"}), ("code-helper", {"BROWSER": "code-helper"})]
)
def test_browser_with_a_window_is_started(tmp_path: Path, name: str, env: dict[str, str]) -> None:
    """On a desktop, and over an editor's remote session, which names its own."""
    assert opened(tmp_path, name, TERM="xterm", **env) == ("True", True)


def test_no_browser_is_no_error(tmp_path: Path) -> None:
    """The links stand in the terminal."""
    assert opened(tmp_path, "unknown") == ("False", False)


def answers(base: str) -> bool:
    """Return whether a server takes connections there."""
    address = urlsplit(base)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_serves_until_a_signal_ends_it(copied: Path, number: signal.Signals, code: int) -> None:
    """It prints a link that answers, and leaves no server behind."""
    process = subprocess.Popen(
        [COMMAND, "ui", "--no-browser"],
        cwd=copied,
        env=environment(copied),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    url = next(line.split()[-1] for line in lines if line.startswith("leaderboard"))
    base = url.partition("/#/")[0]
    assert base.startswith("http://127.0.0.1:")
    assert "workflowType=machine_learning" in url
    assert answers(base)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not answers(base)
