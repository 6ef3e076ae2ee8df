"""What a result was made with is read from the checkout, and the checkout is left as it is."""

import shutil
import subprocess
import sys
from pathlib import Path

from mmsearch.search.study import provenance

ASK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
print(runpy.run_path("search/study/provenance.py")["git_commit"]())
"""


def call(folder: Path, *words: str) -> str:
    """Call a program in a folder; returns what it prints."""
    done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def git(folder: Path, *words: str) -> str:
    """Call git as a person of that folder."""
    return call(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words)


def asked(folder: Path) -> str:
    """Ask for the commit of a checkout on a disk that takes no more than 4 KiB a file."""
    return call(folder, sys.executable, "-c", ASK)


def test_asking_for_the_commit_locks_no_checkout_even_on_a_full_disk(tmp_path: Path) -> None:
    """A lock that is left in somebody's repository stops every commit of theirs."""
    made, checkout = tmp_path / "made", tmp_path / "copy"
    module = made / "search/study/provenance.py"
    module.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, module)
    assert asked(made) == "None", "an installed package"
    git(made, "init", "--quiet")
    assert asked(made) == "None", "a repository without a commit"
    for number in range(100):  # so that the index is larger than 4 KiB
        (made / f"a-file-with-a-name-that-is-rather-long-{number}").write_text("a")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "--message", "a")
    shutil.copytree(made, checkout)  # whose index has not seen its files
    commit = git(checkout, "rev-parse", "HEAD")

    assert asked(checkout) == commit
    assert not list((checkout / ".git").glob("*.lock"))

    (checkout / "not-tracked").write_text("a")
    assert asked(checkout) == commit
    with (checkout / "search/study/provenance.py").open("a") as file:
        file.write("\n")
    assert asked(checkout) == f"{commit}-dirty"
