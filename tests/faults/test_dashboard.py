"""optuna-dashboard shows a study and does not change it."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmsearch.search.study.space import DEFAULTS
from mmsearch.tracking.journal.journal import Journal
from tests.support.commands import environment
from tests.support.mlflow_server import free_port

PATIENCE_S = 60.0
STATES = {"Complete": "COMPLETE", "Pruned": "PRUNED", "Fail": "FAIL"}


@contextlib.contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """Serve a workspace's database; returns the address."""
    port = free_port()
    command = Path(sys.executable).with_name("optuna-dashboard")
    place = ("--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref")
    words = [str(command), *place, f"sqlite:///{folder}/runs/optuna.db"]
    log = folder / "dashboard.log"
    with (
        log.open("w") as out,
        subprocess.Popen(words, env=environment(folder), stdout=out, stderr=out) as server,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def get(url: str) -> Any:
    """Request a page, again while the server starts."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 (ours)
                return json.load(answer)
        except urllib.error.URLError:
            assert time.monotonic() < deadline, url
            time.sleep(0.1)


def dump(folder: Path) -> list[str]:
    """Return the content of the database."""
    with contextlib.closing(sqlite3.connect(folder / "runs/optuna.db")) as database:
        return list(database.iterdump())


def test_dashboard_shows_the_study_unchanged(copied: Path) -> None:
    """The trials have the journal's states, scores, hyperparameters and curves."""
    before = dump(copied)
    with dashboard(copied) as base:
        (study,) = get(f"{base}/api/studies")["study_summaries"]
        shown = get(f"{base}/api/studies/{study['study_id']}")

    assert (study["study_name"], study["directions"]) == ("few", ["minimize"])
    records = Journal(copied / "runs/few").records()
    assert len(records) == 4
    assert [trial["number"] for trial in shown["trials"]] == [r.number for r in records]
    for trial, record in zip(shown["trials"], records, strict=True):
        assert STATES[trial["state"]] == record.state
        assert trial["values"] == [record.dev_loss]
        assert {each["name"]: float(each["param_external_value"]) for each in trial["params"]} == {
            name: getattr(record.spec, name) for name in DEFAULTS
        }
        assert [(each["step"], each["value"]) for each in trial["intermediate_values"]] == [
            (segment.step, segment.dev_loss) for segment in record.curve
        ]
    assert dump(copied) == before
