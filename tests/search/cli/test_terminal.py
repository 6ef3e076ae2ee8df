"""What commands print suits where they print it: colours, control sequences, 80 columns."""

import re
from pathlib import Path

import pytest

from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.terminal import in_terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
"""Makes a command take its output for a terminal."""
TAKEN = ("--corpus", "no/such/folder/of/a/rather/long/name/words.txt")
NOWHERE = "nowhere/" + "in-a-folder-with-a-name-that-does-not-end/" * 3
WRONG = {
    ("trials", "--study", "another"): "mmsearch run --study another",
    ("replay", 99): "mmsearch trials --study few",
    ("sample", "--trial", 99): "mmsearch trials --study few",
    ("final-test", "--trial", 99): "mmsearch trials --study few",
    ("trials", "--workspace", NOWHERE): f"mmsearch run --workspace {NOWHERE.rstrip('/')}",
    ("run", *TAKEN): None,
    ("run", "--study", "no name"): None,
}
"""What is typed, and the command that the error names; where None, what it asks for has none."""


def plain(written: str) -> list[str]:
    """Return the lines without their control sequences."""
    return ESCAPE.sub("", written).splitlines()


@pytest.mark.parametrize(
    "words", [("trials",), ("corpus",), ("sample", "-n", 2), ("replay", 0), ("run", "--help")]
)
def test_results_fit_eighty_columns_and_heed_no_color(
    searched: Path, words: tuple[object, ...]
) -> None:
    """https://no-color.org: no colour, whatever the terminal can."""
    done = run_in_process(*words, folder=searched, NO_COLOR="1", **TERMINAL, code=0)
    assert not COLOUR.search(done.output)
    assert max(map(len, plain(done.output))) <= 80


@pytest.mark.parametrize(("words", "command"), WRONG.items())
def test_errors_wrap_at_words_and_name_the_next_command(
    searched: Path, warm_command: Warm, words: tuple[object, ...], command: str | None
) -> None:
    """A line is too long only where one word is, a path; the next command has its own line."""
    done = warm_command(*words, folder=searched, code=2, **TERMINAL)
    lines = plain(done.stderr)
    assert COLOUR.search(done.stderr), "else the test of NO_COLOR could not fail"
    assert lines[0].startswith("error: ")
    for line in lines:
        assert len(line) <= 80 or len(line.split()) == 1 or line == f"  {command}", line
    named = [line for line in lines if "mmsearch " in line]
    assert named == ([] if command is None else [f"  {command}"])


def test_display_heeds_no_color(copied: Path, small_corpus: Path) -> None:
    """It moves the cursor, which is no colour, and leaves the result on the screen."""
    words = ("--study", "new", "--corpus", small_corpus, "-n", 2, "--steps", 4000, "--workers", 1)
    code, written = in_terminal(copied, "run", *words, NO_COLOR="1")
    assert code == 0, written
    assert not COLOUR.search(written)
    lines = plain(written)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("0 of 2 trials, ") for line in lines), "it was drawn"
    assert "\x1b[?25h" in written, "the cursor is visible again"
    end = next(n for n, line in enumerate(lines) if line.startswith("2 of 2 trials ("))
    assert any(line.startswith("best: trial ") for line in lines[end:])


def test_quiet_commands_print_the_result_alone(copied: Path, warm_command: Warm) -> None:
    """What was written, to be used by a script; words without a heading or a mark; no advice."""
    expected = {
        ("export", "out"): "out\n",
        ("report", "page.html"): "page.html\n",
        ("init", "few.toml"): "few.toml\n",
        ("sync",): "",
    }
    for words, output in expected.items():
        done = warm_command(*words, "--quiet", folder=copied)
        assert (done.returncode, done.stdout, done.stderr) == (0, output, ""), words
    drawn = warm_command("sample", "-n", 5, "-q", folder=copied)
    assert re.fullmatch(r"([a-z]*\n){5}", drawn.stdout)
    run = ("run", "--study", "few", "-n", 4)
    full, short = (warm_command(*run, *more, folder=copied) for more in ((), ("-q",)))
    assert (full.returncode, short.returncode) == (0, 0)
    assert "mmsearch confirm" in full.stdout
    assert "mmsearch " not in short.stdout
    assert short.stdout.startswith("study 'few' already has 4 finished trials"), (
        "the result comes first"
    )
