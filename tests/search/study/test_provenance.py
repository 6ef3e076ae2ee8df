"""What a result was made with is read from the checkout, and the checkout is left as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmsearch.search.study import provenance

ASK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
print(runpy.run_path("search/study/provenance.py")["git_commit"]())
"""


def git(folder: Path, *words: str) -> str:
    """Call git as a person of that folder."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def asked(folder: Path) -> str:
    """Ask for the commit of a checkout on a disk that takes no more than 4 KiB a file."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a checkout whose index is larger than that, and has not seen its files lately."""
    (tmp_path / "search/study").mkdir(parents=True)
    shutil.copy(str(provenance.__file__), tmp_path / "search/study/provenance.py")
    for number in range(100):
        (tmp_path / f"a-file-with-a-name-that-is-rather-long-{number}").write_text("a")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "a")
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    return tmp_path.with_name("copy")


def test_asking_for_the_commit_locks_no_checkout_even_on_a_full_disk(checkout: Path) -> None:
    """A lock that is left in somebody's repository stops every commit of theirs."""
    commit = git(checkout, "rev-parse", "HEAD")

    assert asked(checkout) == commit
    assert not list((checkout / ".git").glob("*.lock"))

    (checkout / "not-tracked").write_text("a")
    assert asked(checkout) == commit
    (checkout / "search/study/provenance.py").write_text(
        Path(provenance.__file__).read_text() + "\n"
    )
    assert asked(checkout) == f"{commit}-dirty"


def test_folder_without_a_commit_has_none(tmp_path: Path) -> None:
    """An installed package and an empty repository have no commit to tell."""
    (tmp_path / "search/study").mkdir(parents=True)
    shutil.copy(str(provenance.__file__), tmp_path / "search/study/provenance.py")

    assert asked(tmp_path) == "None"
    git(tmp_path, "init", "--quiet")
    assert asked(tmp_path) == "None"
