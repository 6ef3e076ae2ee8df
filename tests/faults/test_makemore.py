"""Every block of docs/makemore.md is run in order, and prints what the page shows.

Losses may differ by what the page states; everything else must be equal, but for lines `[...]`,
the names that are sampled, and what a warning advises. The set-up, a block of shell, is not run.
"""

import codeop
import doctest
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_readme import ROOT, blocks
from tests.support.commands import environment

PAGE = (ROOT / "docs" / "makemore.md").read_text("utf-8")
UP_TO_THE_LARGER_NETWORK, _, _ = PAGE.partition("## The larger network")
"""What takes seconds; the rest takes a minute and more."""
TOLERANCE = 0.02
"""What the page allows a loss to differ by."""
NUMBER = r"-?\d+\.\d+"
SECONDS = r"in (\d+ min )?\d+ s$|in \[\.\.\.\]$"
"""How long a search took, which the page leaves out."""
NAME = r"^[a-z]+( \*)?$"
"""A sampled name."""
ADVICE = re.compile(r"(?m)^(warning: [^:]*):.*(\n  .*)*")
"""A warning; what follows its colon depends on a curve, which may differ."""
TIMES = re.compile(r"  time$|  [\d.]+ s$")
"""The heading or a row of a table with times, whose columns are as wide as the times are long."""
LEFT_OUT = "[...]"
"""The line that stands for any lines."""


def agrees(shown: str, real: str) -> bool:
    """Compare an output with the page, where a line `[...]` stands for any lines."""
    shown, real = (ADVICE.sub(r"\1", output) for output in (shown, real))
    rest, may_skip = real.strip().splitlines(), False
    for line in shown.strip().splitlines():
        if line == LEFT_OUT:
            may_skip = True
            continue
        while may_skip and rest and not _is_same(line, rest[0]):
            rest.pop(0)
        if not rest or not _is_same(line, rest.pop(0)):
            return False
        may_skip = False
    return may_skip or not rest


def _is_same(shown: str, real: str) -> bool:
    for pattern, stand_in in ((SECONDS, "in #"), (NAME, "name")):
        shown, real = (re.sub(pattern, stand_in, x.rstrip()) for x in (shown, real))
    if TIMES.search(shown):
        shown, real = (" ".join(x.split()) for x in (shown, real))
    expected, got = re.findall(NUMBER, shown), re.findall(NUMBER, real)
    return re.sub(NUMBER, "#", shown) == re.sub(NUMBER, "#", real) and all(
        math.isclose(float(a), float(b), abs_tol=TOLERANCE)
        for a, b in zip(expected, got, strict=True)
    )


class _Checker(doctest.OutputChecker):
    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        del optionflags
        return agrees(want, got)


@pytest.fixture
def _in_an_empty_folder(
    tmp_path: Path, reference_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(reference_path, tmp_path / "names.txt")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_an_empty_folder")
@pytest.mark.parametrize(
    "page", [UP_TO_THE_LARGER_NETWORK, pytest.param(PAGE, marks=pytest.mark.long)]
)
def test_every_block_runs_and_prints_what_the_page_shows(page: str, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    env = environment(tmp_path)
    for number, block in enumerate(blocks(page)):
        if block.language == "toml":
            title, _, content = block.content.partition("\n")
            (tmp_path / title.removeprefix("# ")).write_text(content)
        elif block.language == "pycon":
            runner = doctest.DocTestRunner(_Checker(), verbose=False)
            test = doctest.DocTestParser().get_doctest(block.content, names, f"{number}", None, 0)
            told: list[str] = []
            runner.run(test, out=told.append, clear_globs=False)
            names = test.globs
            assert not told, "".join(told)
        elif block.language == "console":
            for command, shown in block.commands:
                program = Path(sys.executable).with_name("mmsearch")
                done = subprocess.run(
                    [program, *shlex.split(command)[1:]],
                    env=env,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                assert agrees(shown, done.stdout), f"$ {command}\n{done.stdout}"
        else:
            assert block.language == "sh", f"no way to run a block of {block.language!r}"


def test_the_prompts_are_those_that_python_shows() -> None:
    """A loop ends with an empty line, so that a block can be typed as it stands."""
    entered: list[str] = []
    for line in "\n".join(b.content for b in blocks(PAGE) if b.language == "pycon").splitlines():
        prompt = "... " if entered else ">>> "
        if not entered and not line.startswith(prompt):
            continue  # output
        assert f"{line} ".startswith(prompt), f"Python still waits for the end of {entered}"
        entered.append(line[len(prompt) :])
        if codeop.compile_command("\n".join(entered)) is not None:
            entered = []
    assert not entered


@pytest.mark.parametrize(
    ("real", "is_equal"),
    [("loss 2.161, 3 names", True), ("loss 2.19, 3 names", False), ("loss 2.16, 4 names", False)],
)
def test_losses_may_differ_a_little_and_counts_may_not(real: str, *, is_equal: bool) -> None:
    assert agrees("loss 2.16, 3 names", real) == is_equal
