"""`mmsearch ui`: it serves until it is ended, and opens a page in a window or not at all."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from tests.support.commands import COMMAND, environment
from tests.support.fault_injection import STOP_SERVER
from tests.support.forked_cli import Warm

OPEN = """
import sys
from mmsearch.search.cli.ui import open_page
print(open_page("http://127.0.0.1:9/#/x"))
sys.exit()
"""
NO_BROWSER = {"TERM": "xterm", "BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}


@pytest.mark.parametrize(
    ("installed", "env", "is_started"),
    [
        *((name, {}, False) for name in ("www-browser", "links", "elinks", "lynx", "w3m")),
        ("lynx", {"BROWSER": "lynx"}, False),  # which a person has named for other programs
        ("unknown", {}, False),
        ("firefox", {"DISPLAY": ":7"}, True),
        ("code-helper", {"BROWSER": "code-helper"}, True),  # an editor's remote session
    ],
)
def test_only_a_browser_with_a_window_is_started(
    tmp_path: Path, warm_command: Warm, installed: str, env: dict[str, str], *, is_started: bool
) -> None:
    """A text browser would overwrite the links; none at all is no error."""
    program = tmp_path / installed
    program.write_text(f"#!/bin/sh\necho started > {tmp_path}/started\n")
    program.chmod(0o755)
    variables = {**NO_BROWSER, **env, "PATH": f"{tmp_path}:/nowhere"}
    done = warm_command(folder=tmp_path, patch=OPEN, code=None, **variables)
    assert done.stdout.strip() == str(is_started)
    deadline = time.monotonic() + (4 if is_started else 0)
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "started").exists() == is_started


@pytest.mark.fault
def test_studies_that_are_named_are_compared(
    copied: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """The leaderboard is of their experiments and no other; each has a page of its own."""
    for study in ("more", "other"):
        words = ("--study", study, "--corpus", small_corpus, "-n", 1, "--steps", 40)
        warm_command("run", *words, "--workers", 1, folder=copied, code=0)

    asked = ("ui", "--study", "few", "--study", "more", "--no-browser", "--json")
    done = warm_command(*asked, folder=copied, patch=STOP_SERVER)

    shown = json.loads(done.stdout)
    assert [each["study"] for each in shown["studies"]] == ["few", "more"]
    client = MlflowClient(f"sqlite:///{copied}/runs/mlflow.db")
    ids = {e.name: e.experiment_id for e in client.search_experiments()}
    compared = parse_qs(urlsplit(shown["leaderboard"]).fragment.partition("?")[2])["experiments"]
    assert json.loads(compared[0]) == [ids["mmsearch/few"], ids["mmsearch/more"]]
    warm_command("ui", "--study", "few", "--all", folder=copied, code=2)


def answers(base: str) -> bool:
    """Return whether a server takes connections there."""
    address = urlsplit(base)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


@pytest.mark.fault
@pytest.mark.parametrize("is_ignored", [False, True])
def test_serves_until_a_signal_ends_it(copied: Path, *, is_ignored: bool) -> None:
    """It prints a link that answers, leaves no server behind, and lets an ignored Ctrl-C be."""
    shell = f'trap \'{"" if is_ignored else "-"}\' INT; exec "$0" "$@"'
    process = subprocess.Popen(
        ["sh", "-c", shell, COMMAND, "ui", "--no-browser"],
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
    process.send_signal(signal.SIGINT)
    if is_ignored:
        time.sleep(1)
        assert answers(base)
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == (128 + signal.SIGTERM if is_ignored else 0)
    assert not answers(base)
