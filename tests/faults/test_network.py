"""No command connects to another machine: every process is watched, beside a decoy proxy."""

import json
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, environment

# With one of these MLflow takes a process for a test, and sends no telemetry.
OF_TESTS = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "PYTEST_CURRENT_TEST", "TRAVIS")
# Run by every Python process: notes each address on a network. A path is a socket of this machine
# (MLflow's server asks a Docker daemon, if there is one, what its assistant has left).
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
RUN = ("run", "--corpus", "few.txt", "-n", 1, "--steps", 100, "--workers", 1)
SHORT: tuple[tuple[object, ...], ...] = (RUN, ("final-test",))
LONG: tuple[tuple[object, ...], ...] = (
    RUN,
    ("confirm", "--top", 1, "--seeds", 1),
    ("final-test",),
    ("sync",),
    ("sample",),
    ("replay",),
    ("export", "exported"),
)


@pytest.fixture
def requests() -> Iterator[tuple[str, list[bytes]]]:
    """Open a proxy that refuses everything; returns its URL, and the requests it received."""
    received: list[bytes] = []

    def listen(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                received.append(client.recv(1000))
                client.sendall(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=listen, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", received
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def variables(
    tmp_path: Path, small_corpus: Path, requests: tuple[str, list[bytes]]
) -> dict[str, str]:
    """Return the environment of a user behind the proxy, whose every process is watched."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    (tmp_path / "few.txt").write_bytes(small_corpus.read_bytes())
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), requests[0])
    kept = {n: v for n, v in environment(tmp_path).items() if n not in {*OF_TESTS, "no_proxy"}}
    paths = (str(tmp_path / "watch"), *filter(None, [kept.get("PYTHONPATH")]))
    watched = {"PYTHONPATH": ":".join(paths), "WATCHED": str(tmp_path / "watched")}
    return {**kept, **proxies, **watched, "NO_PROXY": ""}


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


@pytest.mark.parametrize("story", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_commands_connect_to_no_other_machine(
    tmp_path: Path,
    variables: dict[str, str],
    requests: tuple[str, list[bytes]],
    story: tuple[tuple[object, ...], ...],
) -> None:
    """From search to samples all stays on this machine, and MLflow sends no telemetry."""
    for words in story:
        call(tmp_path, variables, *words)
    with subprocess.Popen(
        [COMMAND, "ui", "--no-browser"],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    ) as ui:
        try:
            assert ui.stdout is not None
            link = next(word for line in ui.stdout for word in line.split() if "http://" in word)
            base = link.partition("/#/")[0]
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{base}/ajax-api/3.0/mlflow/ui-telemetry", timeout=60) as answer:
                assert json.load(answer)["disable_ui_telemetry"] is True
            ui.send_signal(signal.SIGINT)
            ui.wait(60)
        finally:
            ui.kill()

    lines = (tmp_path / "watched").read_text().splitlines()
    assert any(f"('127.0.0.1', {base.rpartition(':')[2]})" in line for line in lines), "no watch"
    assert [line for line in lines if "'127.0.0.1'" not in line] == []
    assert requests[1] == []


def test_telemetry_would_be_seen(
    tmp_path: Path, variables: dict[str, str], requests: tuple[str, list[bytes]]
) -> None:
    """If the user turns telemetry on, the watch and the proxy both notice it."""
    call(tmp_path, {**variables, "MLFLOW_DISABLE_TELEMETRY": "false"}, *RUN)
    assert [request for request in requests[1] if request.startswith(b"CONNECT")]
    assert (tmp_path / "watched").read_text()
