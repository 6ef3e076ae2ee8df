"""A study's log file: what went wrong, with its traceback and without a password."""

import logging
from pathlib import Path

import pytest

from mmsearch.tracking.journal.logs import logging_to

LOGGER = logging.getLogger("mmsearch.tracking.uploader")


def test_fault_is_written_with_its_traceback_and_no_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "logs"):
        try:
            int("postgresql://me:sesame@host/db")
        except ValueError:
            LOGGER.info("trial 3 could not be shown", exc_info=True)
        LOGGER.debug("a detail")

    (path,) = (tmp_path / "logs").iterdir()
    text = path.read_text("utf-8")
    assert "trial 3 could not be shown" in text
    assert "test_logs.py" in text
    assert "sesame" not in text
    assert "a detail" not in text
    assert capfd.readouterr() == ("", "")


def test_warning_is_printed_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with logging_to(tmp_path / "logs"):
        LOGGER.warning("the database was migrated")

    assert capfd.readouterr().err == "the database was migrated\n"


def test_without_a_fault_or_a_place_there_is_no_file_and_no_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "logs"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "logs").write_text("in the way")

    with logging_to(tmp_path / "logs"):
        LOGGER.info("lost")

    assert capfd.readouterr() == ("", "")
