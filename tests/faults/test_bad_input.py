"""Whatever a person gives a command: a documented end, one clear line, and nothing out of place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from mmsearch.search.cli.app import app
from mmsearch.search.study.settings import TABLES
from mmsearch.search.study.space import DEFAULTS
from tests.support.cli_contract import assert_told, contents
from tests.support.forked_cli import Command, Done

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
NUMBERS = ("0", "-1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 30, f"-{'9' * 30}", "9" * 5000)
TEXTS = ("", " ", "-", "--", "..", "../up", "a/b", "it's", 'a"b', "two\nlines", "x" * 300, "🎉")
PLACES = ("://", "sqlite://", "sqlite:///", "sqlite:///:memory:", "none://u:sesame@h/d", "runs")
ODD = ("\udcff", "%s", "[red]x", "é", "\u202e", "\x1b[2J", "NaN", "None", "*")
"""Also bytes that are no UTF-8, markup, controls; NUL no system lets through."""
VALUES = (*NUMBERS, *TEXTS, *PLACES, *ODD)
UNBOUNDED = {"steps", "seeds", "top", "count", "trials", "trial", "points", "timeout", "workers"}
"""Options under which a large number is a long search and no mistake."""
ELSEWHERE = (("--workspace", "../up"), ("--workspace", ".."))
"""Would be done, in another place."""
FINISHED: dict[str, tuple[object, ...]] = {
    "run": ("run", "--study", "few", "-n", 4, "--workers", 1, "--timeout", 0, "--quiet"),
    "final-test": ("final-test", "--trial", 99),
    "confirm": ("confirm", "--top", 1, "--seeds", 1, "--workers", 1),
    "ui": ("ui", "--no-browser", "--port", 0),
    "export": ("export", "taken", "--trial", 99),
    "replay": ("replay", 99),
    "report": ("report", "taken"),
    "sample": ("sample", "-n", 1),
    "lr-range": ("lr-range", "--embedding-dim", 0),
}
"""Each command so that there is little to do, or nothing, but for the option that is tried."""
MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
"""
"""A machine's memory is bounded, whatever is asked for."""

slow = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def options(command: str) -> list[tuple[str, bool]]:
    """Give a command's options that take a value, and whether a large one is a long search."""
    return [
        (max(parameter.opts, key=len), parameter.name in UNBOUNDED)
        for parameter in COMMANDS[command].params
        if parameter.opts[0].startswith("-")
        and not parameter.is_flag
        and "--help" not in parameter.opts
    ]


def tries(command: str) -> list[tuple[object, ...]]:
    """Give each option each value, in an order that spreads both."""
    base = FINISHED.get(command, (command,))
    found: list[tuple[object, ...]] = []
    for name, is_long in options(command):
        for value in VALUES:
            is_large = value.isdecimal() and int(value[:9]) > 0
            # A workspace may be anywhere: only those that stay here, or are none, are tried.
            if not (is_long and is_large) and (name, value) not in ELSEWHERE:
                found.append((*base, f"{name}={value}" if name.startswith("--") else name))
    return found


def assert_all_told(done: list[Done], words: list[tuple[object, ...]]) -> None:
    """Hold it of each, and name the one that fails."""
    for one, given_words in zip(done, words, strict=True):
        try:
            assert_told(one)
        except AssertionError as error:
            raise AssertionError(f"{given_words}: {error}") from error


def attempt(place: Path, warm: Warm, words: list[tuple[object, ...]]) -> list[Done]:
    """Run commands in a folder, a few at a time; each ends as documented, in nobody's way."""
    done: list[Done] = []
    for start in range(0, len(words), 8):
        batch = words[start : start + 8]
        done += warm.together([Command(each, place, MEMORY) for each in batch])
    assert_all_told(done, words)
    return done


def left_behind(place: Path) -> set[str]:
    """Give what stands beside the workspace, but for the user's own folder."""
    return {path.name for path in place.iterdir()} - {".local"}


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_value_of_an_option_is_told(copied: Path, warm_command: Warm, command: str) -> None:
    """A spread of pairs of an option and a value; each pair in the long version."""
    words = [pair for pair in tries(command) if "--workspace" not in str(pair[-1])]
    attempt(copied, warm_command, words[:: max(1, len(words) // 24)])
    assert left_behind(copied) <= {"runs", "taken"}


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_every_odd_value_of_every_option_is_told(
    copied: Path, warm_command: Warm, command: str
) -> None:
    """Each option of each command gets each value; a workspace may be called anything."""
    attempt(copied, warm_command, tries(command))
    assert not (copied.parent / "up").exists()


@pytest.mark.parametrize("name", ["zoë", "it's 🎉 here"])
def test_workspace_of_any_name_leaves_nothing_beside_it(
    tmp_path: Path, warm_command: Warm, small_corpus: Path, name: str
) -> None:
    """MLflow makes the folder that a URI names as it stands: no `zo%C3%AB` beside `zoë`."""
    words = ("run", "--corpus", small_corpus, "-n", 1, "--timeout", 0, "--workers", 1)
    done = warm_command(*words, "--workspace", name, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_told(done)
    assert left_behind(tmp_path) == {name}


REFUSED = (*TEXTS[4:], "\udcff", "%s", "[red]x", "\u202e", "\x1b[2J", "artifacts", "LOCK")


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_odd_name_of_a_study_is_refused(
    tmp_path: Path, warm_command: Warm, small_corpus: Path, name: str
) -> None:
    """Separators, quotes, newlines, 300 characters and pictures make no folder, here or above."""
    words = ("run", "--corpus", small_corpus, "--timeout", 0, f"--study={name}")
    done = warm_command(*words, folder=tmp_path)
    assert done.returncode == 2
    assert_told(done)
    assert left_behind(tmp_path) == set()


CORPORA = st.one_of(
    st.binary(max_size=200),
    st.lists(st.binary(max_size=6), min_size=8, max_size=30).map(b"\n".join),
    st.lists(
        st.text(st.characters(categories=["L", "M", "Zs", "P"]), min_size=1, max_size=6),
        min_size=12,
        max_size=30,
    ).map(lambda words: "\r\n".join(words).encode()),
)
TOML_VALUES = st.sampled_from(
    [
        *(
            "1",
            "0",
            "-1",
            "1.5",
            "nan",
            "inf",
            "1e400",
            '"tpe"',
            "[]",
            "{low=1}",
            "true",
            "9" * 400,
        ),
        *("{low=2,high=1}", "{low=0,high=1,log=true}", "{low=nan,high=1}", "{low=1,high=2,step=1}"),
        *("{low=1e-300,high=1e300}", "{low=1,high=1000000000000}"),
    ]
)
KEYS = [key for keys in TABLES.values() for key in keys]
CONFIGS = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.one_of(
            st.sampled_from([f"[{name}]" for name in (*TABLES, "space", "odd")] + ["[[enqueue]]"]),
            st.builds("{} = {}".format, st.sampled_from([*KEYS, *DEFAULTS, "odd"]), TOML_VALUES),
        ),
        max_size=5,
    ).map(lambda lines: "\n".join(lines).encode()),
)


def check_files(place: Path, warm: Warm, files: list[bytes], *words: object) -> None:
    """Give a command some files, all at once, and hold that those it refuses change nothing."""
    paths = [place / f"given{number}" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    before = contents(place / "runs")
    given_words: list[tuple[object, ...]] = [(*words, path) for path in paths]
    attempt(place, warm, given_words)
    assert contents(place / "runs") == before
    assert left_behind(place) <= {"runs", *(path.name for path in place.glob("given*"))}


@settings(slow, max_examples=6)
@given(corpora=st.lists(CORPORA, min_size=8, max_size=8))
@example([b"", b"\0" * 50, b"\xff\xfe", b"\xef\xbb\xbf", b"a.b\n" * 20, b"\r" * 9, b"\n", b"a"])
def test_any_corpus_is_counted_or_refused(
    copied: Path, warm_command: Warm, corpora: list[bytes]
) -> None:
    """Bytes of any kind: `mmsearch corpus` counts words, or says in one line why there are none."""
    check_files(copied, warm_command, corpora, "corpus")


@settings(slow, max_examples=4)
@given(corpora=st.lists(CORPORA, min_size=8, max_size=8))
def test_any_corpus_leaves_a_study_as_it_was(
    copied: Path, warm_command: Warm, corpora: list[bytes]
) -> None:
    """No words go into a study that has others."""
    check_files(copied, warm_command, corpora, *FINISHED["run"], "--corpus")


@settings(slow, max_examples=6)
@given(configs=st.lists(CONFIGS, min_size=8, max_size=8))
def test_any_config_leaves_a_study_as_it_was(
    copied: Path, warm_command: Warm, configs: list[bytes]
) -> None:
    """TOML of any kind, and what is none, beside a seed that is another: refused in one line."""
    other = (*FINISHED["run"], "--seed", 99, "--config")
    check_files(copied, warm_command, configs, *other)


HARD = {
    "one letter": ["a" * n for n in range(1, 40)],
    "long words": [chr(97 + n) * 10_000 for n in range(12)],
    "many letters": ["".join(chr(0x4E00 + 5 * n + k) for k in range(5)) for n in range(1000)],
}


@pytest.mark.parametrize("kind", HARD)
def test_hard_words_are_searched_like_any(tmp_path: Path, warm_command: Warm, kind: str) -> None:
    """One letter alone, words of 10,000 letters, an alphabet of 5,000: legal, and trained on."""
    path = tmp_path / "hard.txt"
    path.write_bytes("\n".join(HARD[kind]).encode())
    config = tmp_path / "config.toml"
    config.write_text("[training]\nsegments = 2\n[space]\nhidden_width = 8\nembedding_dim = 2\n")
    words = ("run", "--corpus", path, "--config", config, "-n", 1, "--steps", 20, "--workers", 1)
    for each in (words, ("sample", "-n", 2)):
        done = warm_command(*each, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert_told(done)
    assert "MLflow lacks" not in done.stdout


@pytest.mark.long
def test_million_words_are_searched_like_any(tmp_path: Path, warm_command: Warm) -> None:
    """Words by the million: counted, split, trained on and sampled from."""
    path = tmp_path / "million.txt"
    letters = "abcdefghijklmnop"
    digits = str.maketrans("0123456789", letters[6:])
    path.write_text("\n".join(f"{n:x}".translate(digits) for n in range(10**6)))
    config = tmp_path / "config.toml"
    config.write_text("[training]\nsegments = 2\n[space]\nhidden_width = 8\nembedding_dim = 2\n")
    words = ("run", "--corpus", path, "--config", config, "-n", 2, "--steps", 400, "--workers", 1)
    for each in (("corpus", path), words, ("sample", "-n", 2)):
        done = warm_command(*each, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert_told(done)
