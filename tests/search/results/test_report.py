"""`mmsearch report`: one page that tells a study to someone who has the page alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm


def test_report_tells_the_whole_study(copied: Path, warm_command: Warm) -> None:
    """Result, figures of the study and its best trials, every trial, what it follows from."""
    done = warm_command("report", "--top", 2, folder=copied)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'few.html'" in done.stdout
    page = (copied / "few.html").read_text()
    best_first = ranked(Journal(copied / "runs/few").records())
    best = best_first[0]
    assert f"<strong>Best: trial {best.number}, dev loss {best.dev_loss:.4f}" in page
    # History, parallel coordinates, trade-off; a loss curve and an embedding of each of two.
    assert page.count('<img src="data:image/png;base64,') == 3 + 2 * 2
    rows = re.findall(r"<tr>\n<td>(\d+)</td>\n<td>complete</td>", page)
    assert rows == [str(record.number) for record in best_first]
    assert "corpus fingerprint" in page
    assert "\N{EM SPACE}" not in page, "that is for MLflow's pages"
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_report_has_confirmation_and_final_test(copied: Path, warm_command: Warm) -> None:
    """What was chosen over seeds, and the one look, once there is one."""
    assert warm_command("confirm", "--top", 1, "--seeds", 2, folder=copied).returncode == 0
    assert warm_command("final-test", folder=copied).returncode == 0
    assert warm_command("report", "page.html", folder=copied).returncode == 0
    page = (copied / "page.html").read_text()
    assert "Confirmed on dev: 2 fresh seeds" in page
    assert 'alt="What the search promised of its best trials' in page
    assert "Final test, look 1" in page


def test_page_that_cannot_be_written_is_named(copied: Path, warm_command: Warm) -> None:
    """One line with the path."""
    done = warm_command("report", "no/such/folder.html", folder=copied)
    assert done.returncode == 1
    assert "no/such/folder.html" in done.stderr
    assert len(done.stderr.splitlines()) == 1
