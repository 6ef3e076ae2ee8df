"""The script that makes names.txt from its source."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from docs.gen import make_names as make_names_module
from docs.gen.make_names import make_names
from mmsearch.data.corpus import BUILTIN_CORPUS


def run_script(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, make_names_module.__file__, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_script_writes_the_names_in_lower_case_and_in_order(tmp_path: Path) -> None:
    source, target = tmp_path / "source.txt", tmp_path / "names.txt"
    source.write_bytes(b"Emma,F,18770\r\nMcKenna,F,90\r\nRiley,F,50\r\nRiley,M,40\r\n")

    assert run_script(source, target).returncode == 0

    assert target.read_bytes() == b"emma\nmckenna\nriley\nriley\n"
    done = run_script(tmp_path / "nowhere", target)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("row", ["Emma", "Emma,F", ",F,3", "Emma,F,3,4", ""])
def test_row_of_another_form_is_refused_by_its_number(row: str) -> None:
    with pytest.raises(ValueError, match="row 2"):
        make_names(f"Emma,F,1\n{row}\nMia,F,1\n")


def test_committed_names_are_made_from_the_source(ssa_source: Path) -> None:
    made = make_names(ssa_source.read_text(encoding="utf-8"))

    assert made.encode() == BUILTIN_CORPUS.read_bytes()


def test_readme_has_the_checksum_of_the_committed_names() -> None:
    readme = BUILTIN_CORPUS.with_name("README.md").read_text(encoding="utf-8")

    assert hashlib.sha256(BUILTIN_CORPUS.read_bytes()).hexdigest() in readme
