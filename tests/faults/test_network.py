"""No command connects to anything by itself: every process is watched, beside a decoy proxy."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# MLflow takes a process with one of these for a test's, and sends nothing.
OF_TESTS = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "PYTEST_CURRENT_TEST", "TRAVIS")
# Read by every Python process that finds it: notes whom the process talks to, over a network. (A
# path is a socket of this machine: MLflow's server asks a Docker daemon, if there is one, for what
# its assistant has left.)
WATCH = """
import os, sys
def note(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        address = arguments[1] if event != "socket.getaddrinfo" else arguments[0]
        if not isinstance(address, (str, bytes)) or event == "socket.getaddrinfo":
            with open(os.environ["WATCHED"], "a") as file:
                print(event, repr(address), sys.argv[:2], file=file)
sys.addaudithook(note)
"""
RUN = ("run", "--corpus", "few.txt", "-n", 3, "--steps", 100, "--workers", 2)
SHORT = (RUN, ("final-test",))
LONG = (
    RUN,
    ("confirm", "--top", 1, "--seeds", 1),
    ("final-test",),
    ("sync",),
    ("sample",),
    ("replay",),
    ("export", "exported"),
)


@pytest.fixture
def decoy() -> Iterator[tuple[str, list[bytes]]]:
    """Open a proxy that lets nobody through; gives its URL, and what it was asked for."""
    asked: list[bytes] = []

    def listen(door: socket.socket) -> None:
        while True:
            try:
                guest, _ = door.accept()
            except OSError:
                return
            with guest:
                guest.settimeout(10)
                asked.append(guest.recv(1000))
                guest.sendall(b"HTTP/1.1 502 No\\r\\nContent-Length: 0\\r\\n\\r\\n")

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=listen, args=(door,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}", asked
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def variables(tmp_path: Path, small_corpus: Path, decoy: tuple[str, list[bytes]]) -> dict[str, str]:
    """Give the environment of a person behind the proxy, whose every process is watched."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    (tmp_path / "few.txt").write_bytes(small_corpus.read_bytes())
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), decoy[0])
    kept = {n: v for n, v in environment(tmp_path).items() if n not in {*OF_TESTS, "no_proxy"}}
    paths = (str(tmp_path / "watch"), *filter(None, [kept.get("PYTHONPATH")]))
    return {
        **kept,
        **proxies,
        "NO_PROXY": "",
        "PYTHONPATH": ":".join(paths),
        "WATCHED": str(tmp_path / "watched"),
    }


def call(folder: Path, variables: dict[str, str], *words: object) -> None:
    """Run a command to its end."""
    done = subprocess.run(
        [COMMAND, *map(str, words)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def watched(folder: Path) -> list[str]:
    """Give what was noted."""
    path = folder / "watched"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("story", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_story_connects_to_nothing(
    tmp_path: Path,
    variables: dict[str, str],
    decoy: tuple[str, list[bytes]],
    story: tuple[tuple[object, ...], ...],
) -> None:
    """From search to samples all stays on this machine, and MLflow tells nobody."""
    for words in story:
        call(tmp_path, variables, *words)
    with subprocess.Popen(
        [COMMAND, "ui", "--no-browser"],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    ) as ui:
        assert ui.stdout is not None
        link = next(word for line in ui.stdout for word in line.split() if "http://" in word)
        base = link.partition("/#/")[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{base}/ajax-api/3.0/mlflow/ui-telemetry", timeout=60) as answer:
            assert json.load(answer)["disable_ui_telemetry"] is True
        ui.send_signal(signal.SIGINT)
        ui.wait(60)

    port = base.rpartition(":")[2]
    ours = [line for line in watched(tmp_path) if f"('127.0.0.1', {port})" in line]
    assert ours  # whether the server is up: the watch sees that, and nothing else
    others = [line for line in watched(tmp_path) if line not in ours and "'127.0.0.1'" not in line]
    assert others == []
    assert not decoy[1]


def test_telemetry_would_be_seen(
    tmp_path: Path, variables: dict[str, str], decoy: tuple[str, list[bytes]]
) -> None:
    """A person who turns it on is obeyed; the watch and the proxy both notice."""
    on = {**variables, "MLFLOW_DISABLE_TELEMETRY": "false"}
    call(tmp_path, on, *RUN)
    assert [request for request in decoy[1] if request.startswith(b"CONNECT")]
    assert watched(tmp_path)
