"""A workspace that may only be read can be looked at: on a full share, or by a colleague."""

import json
from pathlib import Path

from tests.support.cli_contract import contents
from tests.support.drop_capabilities import UNPRIVILEGED
from tests.support.fault_injection import STOP_SERVER
from tests.support.forked_cli import Warm

READERS: dict[str, tuple[object, ...]] = {
    "trials": ("trials",),
    "sample": ("sample", "-n", 2),
    "losses": ("losses",),
    "report": ("report", "page.html"),
    "figures": ("figures", "drawn"),
    "export": ("export", "model"),
    "ui": ("ui", "--no-browser", "--json"),
}


def test_readers_work_and_leave_it_as_it_is(copied: Path, warm_command: Warm) -> None:
    """MLflow writes to whatever database it opens, so that its UI shows a copy."""
    runs = copied / "runs"
    paths = [runs, *runs.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = contents(runs)
    try:
        for name, words in READERS.items():
            patch = UNPRIVILEGED + (STOP_SERVER if name == "ui" else "")
            done = warm_command(*words, folder=copied, patch=patch)
            assert name == "ui" or done.returncode == 0, (name, done.stderr)
            assert "Traceback" not in done.stderr
        links = json.loads(done.stdout)
        assert links["leaderboard"].startswith("http://127.0.0.1:")
        assert contents(runs) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
