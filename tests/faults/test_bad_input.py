"""Whatever a command is given, it ends as documented, with one clear line, and changes nothing."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from mmsearch.search.cli.app import app
from tests.support.cli_contract import assert_told
from tests.support.forked_cli import Command, Done, Warm
from tests.support.in_process import run_in_process

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
NUMBERS = ("0", "-1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 30, f"-{'9' * 30}", "9" * 5000)
TEXTS = ("", " ", "-", "--", "..", "../up", "a/b", "it's", 'a"b', "two\nlines", "x" * 300, "🎉")
PLACES = ("://", "sqlite://", "sqlite:///", "sqlite:///:memory:", "none://u:sesame@h/d", "runs")
ODD = ("\udcff", "%s", "[red]x", "é", "\u202e", "\x1b[2J", "NaN", "None", "*")
"""Bytes that are not UTF-8, markup and control characters; no system passes NUL on."""
VALUES = (*NUMBERS, *TEXTS, *PLACES, *ODD)
LONG_SEARCH = {"steps", "seeds", "top", "count", "trials", "trial", "points", "timeout", "workers"}
"""Options for which a large number is valid, and means a long search."""
ELSEWHERE = ("--workspace=../up", "--workspace=..")
"""Valid, but the work would be done outside the test's folder."""
FINISHED: dict[str, tuple[object, ...]] = {
    "run": ("run", "--study", "few", "-n", 4, "--workers", 1, "--timeout", 0, "--quiet"),
    "final-test": ("final-test", "--trial", 99),
    "confirm": ("confirm", "--top", 1, "--seeds", 1, "--workers", 1),
    "ui": ("ui", "--no-browser", "--port", 0),
    "export": ("export", "taken", "--trial", 99),
    "figures": ("figures", "taken", "--trial", 99),
    "replay": ("replay", 99),
    "extend": ("extend", 99, "--steps", 20),
    "report": ("report", "taken"),
    "sample": ("sample", "-n", 1),
    "lr-range": ("lr-range", "--embedding-dim", 0),
}
"""Each command with arguments that leave it little to do, besides the option that is tried."""
MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
"""
"""Limits the memory that a command may ask for."""

slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def tries(command: str) -> list[tuple[object, ...]]:
    """Combine each option of a command with each odd value."""
    found: list[tuple[object, ...]] = []
    for parameter in COMMANDS[command].params:
        name = max(parameter.opts, key=len)
        if not name.startswith("--") or parameter.is_flag or name == "--help":
            continue
        for value in VALUES:
            is_large = value.isdecimal() and int(value[:9]) > 0
            option = f"{name}={value}"
            if not (is_large and parameter.name in LONG_SEARCH) and option not in ELSEWHERE:
                found.append((*FINISHED.get(command, (command,)), option))
    return found


TRIES = {command: tries(command) for command in COMMANDS}
HERE = [words for each in TRIES.values() for words in each if "--workspace" not in str(words[-1])]
"""All of them but those that name another workspace."""


def attempt(folder: Path, warm: Warm, words: list[tuple[object, ...]]) -> list[Done]:
    """Run commands, eight at a time, and check that each ends as documented."""
    done: list[Done] = []
    for start in range(0, len(words), 8):
        done += warm.together([Command(each, folder, MEMORY) for each in words[start : start + 8]])
    for one, given_words in zip(done, words, strict=True):
        try:
            assert_told(one)
        except AssertionError as error:
            raise AssertionError(f"{given_words}: {error}") from error
    return done


def left_behind(folder: Path) -> set[str]:
    """List a folder, without the user's own data."""
    return {path.name for path in folder.iterdir()} - {".local"}


@settings(slow, max_examples=8)
@given(words=st.lists(st.sampled_from(HERE), min_size=8, max_size=8))
def test_odd_value_of_any_option_ends_as_documented(
    copied: Path, warm_command: Warm, words: list[tuple[object, ...]]
) -> None:
    """Any option of any command with any odd value; all pairs are tried in the long version."""
    attempt(copied, warm_command, words)
    assert left_behind(copied) <= {"runs", "taken"}


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_every_odd_value_of_every_option_ends_as_documented(
    copied: Path, warm_command: Warm, command: str
) -> None:
    """Each option of each command gets each value; a workspace may have any name."""
    attempt(copied, warm_command, TRIES[command])
    assert not (copied.parent / "up").exists()


def test_workspace_of_any_name_leaves_nothing_beside_it(
    tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """MLflow creates the folder that a URI names literally: no `zo%C3%AB` may appear by `zoë`."""
    words = ("run", "--corpus", small_corpus, "-n", 1, "--timeout", 0, "--workers", 1)
    (done,) = attempt(tmp_path, warm_command, [(*words, "--workspace", "zoë it's 🎉")])
    assert done.returncode == 0, done.stderr
    assert left_behind(tmp_path) == {"zoë it's 🎉"}
    (done,) = attempt(tmp_path, warm_command, [(*words, "--workspace", "")])
    assert done.returncode == 2
    assert left_behind(tmp_path) == {"zoë it's 🎉"}


CORPORA = st.one_of(
    st.binary(max_size=200),
    st.lists(st.binary(max_size=6), min_size=8, max_size=30).map(b"\n".join),
    st.lists(
        st.text(st.characters(categories=["L", "M", "Zs", "P"]), min_size=1, max_size=6),
        min_size=12,
        max_size=30,
    ).map(lambda words: "\r\n".join(words).encode()),
)


@given(content=CORPORA)
@example(b"\xff\xfe")
@example(b"a.b\n" * 20)
@example(b"\r" * 9)
def test_any_corpus_is_counted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """`corpus` shows any words, or says why there are none."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.txt").write_bytes(content)
    done = run_in_process("corpus", "any.txt", folder=folder)
    assert done.exit_code == (2 if done.error else 0)


def check_searched(folder: Path, warm: Warm, words: list[str], *options: object) -> None:
    """Count, train on and sample from a corpus."""
    path, config = folder / "words.txt", folder / "config.toml"
    path.write_text("\n".join(words))
    config.write_text("[training]\nsegments = 2\n[space]\nhidden_width = 8\nembedding_dim = 2\n")
    run = ("run", "--corpus", path, "--config", config, "--workers", 1, *options)
    for each in (("corpus", path), run, ("sample", "-n", 2)):
        (done,) = attempt(folder, warm, [each])
        assert done.returncode == 0, done.stderr


HARD = {
    "one letter": ["a" * n for n in range(1, 40)],
    "large alphabet": [
        *("".join(chr(0x4E00 + 5 * n + k) for k in range(5)) for n in range(1000)),
        *(chr(97 + n) * 10_000 for n in range(12)),
    ],
}


@pytest.mark.parametrize("kind", HARD)
def test_hard_words_are_searched_like_any(tmp_path: Path, warm_command: Warm, kind: str) -> None:
    """One letter alone; an alphabet of 5,000, with words of 10,000 letters."""
    check_searched(tmp_path, warm_command, HARD[kind], "-n", 1, "--steps", 20)


@pytest.mark.long
def test_million_words_are_searched_like_any(tmp_path: Path, warm_command: Warm) -> None:
    """A million words are counted, split, trained on and sampled from."""
    digits = str.maketrans("0123456789", "ghijklmnop")
    words = [f"{n:x}".translate(digits) for n in range(10**6)]
    check_searched(tmp_path, warm_command, words, "-n", 2, "--steps", 400)
