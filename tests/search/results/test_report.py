"""`mmsearch report`: one page that tells a study to someone who has the page alone."""

import re
from pathlib import Path

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked
from tests.support.in_process import run_in_process


def test_report_tells_the_whole_study(told: Path, tmp_path: Path) -> None:
    """Result, figures of the study and its best trials, every trial, and the one look."""
    words = ("report", "page.html", "--top", 2, "--study", "few", "--workspace", told / "runs")
    # The look is in the ledger of who has taken it.
    done = run_in_process(*words, folder=tmp_path, MMSEARCH_LEDGER=str(ledger(told)), code=0)
    assert "page.html" in done.output
    page = (tmp_path / "page.html").read_text()
    best_first = ranked(Journal(told / "runs/few").records())
    best = best_first[0]
    assert f"<strong>Best: trial {best.number}, dev loss {best.dev_loss:.4f}" in page
    # History, parallel coordinates, trade-off, confirmation; a loss curve and an embedding of two.
    assert page.count('<img src="data:image/png;base64,') == 4 + 2 * 2
    rows = re.findall(r"<tr>\n<td>(\d+)</td>\n<td>complete</td>", page)
    assert rows == [str(record.number) for record in best_first]
    for part in ("corpus fingerprint", "2 fresh seeds", "Final test, look 1"):
        assert part in page
    assert "\N{EM SPACE}" not in page, "that is for MLflow's pages"
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def ledger(folder: Path) -> Path:
    """Return the ledger of the user whose home a folder is."""
    return folder / ".local/share/mmsearch/ledger"


def test_page_that_cannot_be_written_is_named(searched: Path) -> None:
    """One line with the path."""
    done = run_in_process("report", "no/such/folder.html", folder=searched, code=1)
    assert "no/such/folder.html" in done.error
