"""The committed names.txt is what its script makes of its source."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from docs.gen import make_names as make_names_module
from docs.gen.make_names import main, make_names
from mmsearch.data.corpus import BUILTIN_CORPUS

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_become_lower_case_lines_in_their_order(tmp_path: Path) -> None:
    source, target = tmp_path / "source.txt", tmp_path / "names.txt"
    source.write_bytes(b"Emma,F,18770\r\nMcKenna,F,90\r\nRiley,F,50\r\nRiley,M,40\r\n")

    subprocess.run([sys.executable, make_names_module.__file__, source, target], check=True)

    assert target.read_bytes() == b"emma\nmckenna\nriley\nriley\n"


@pytest.mark.parametrize("row", ["Emma", "Emma,F", ",F,3", "Emma,F,3,4", ""])
def test_row_of_another_form_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match="row 2 must be name,sex,births"):
        make_names(f"Emma,F,1\n{row}\nMia,F,1\n")


def test_missing_source_shows_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nowhere"), str(tmp_path / "names.txt")])

    assert "No such file" in capsys.readouterr().err


def test_readme_names_the_committed_file() -> None:
    readme = BUILTIN_CORPUS.with_name("README.md").read_text(encoding="utf-8")

    assert hashlib.sha256(BUILTIN_CORPUS.read_bytes()).hexdigest() in readme


def test_committed_names_are_made_from_the_source(ssa_source: Path) -> None:
    made = make_names(ssa_source.read_text(encoding="utf-8"))

    assert made.encode() == BUILTIN_CORPUS.read_bytes()
