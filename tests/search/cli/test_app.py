"""The command line as a whole: help, usage, bad input, signals, and shell completion."""

import json
import re
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from typer.main import get_command

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.search.cli.app import app
from mmsearch.search.study.settings import Settings
from tests.support.commands import Mmsearch
from tests.support.fault_injection import READ_CORPUS, replaced
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = tuple(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(tmp_path: Path, command: str) -> None:
    """Every command, and each of its options, says what it does, on any terminal."""
    done = run_in_process(*command.split(), "--help", folder=tmp_path, code=0)
    assert "Usage: mmsearch" in done.output
    assert all(len(line) <= 80 for line in done.output.splitlines())
    if command:
        options = get_command(app).commands[command].params  # type: ignore[attr-defined]
        assert all(option.help for option in options)


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_names_each_command(command: str) -> None:
    """A command that no page names does not exist for most people."""
    assert f"mmsearch {command}" in (ROOT / "README.md").read_text()


def test_help_imports_nothing_slow() -> None:
    """Asking for help takes no second: torch, MLflow, Optuna and matplotlib stay out."""
    code = "import sys, mmsearch.search.cli.app; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("torch", "mlflow", "optuna", "matplotlib", "numpy", "sqlalchemy"):
        assert f"'{name}'" not in done.stdout


def test_help_names_the_true_defaults() -> None:
    """The defaults and choices in --help are those that a study gets."""
    options = {p.name: p for p in get_command(app).commands["run"].params}  # type: ignore[attr-defined]
    settings, kinds, shared = Settings(), get_type_hints(Settings), set()
    for field in fields(Settings):
        option = options.get(field.name)
        if option is not None and isinstance(option.show_default, str):
            assert option.show_default == str(getattr(settings, field.name))
        if option is not None:
            shared.add(field.name)
            assert all(choice in option.help for choice in get_args(kinds[field.name]))
    assert {"sampler", "pruner", "steps", "seed"} <= shared


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    """The version is written in pyproject.toml alone."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run_in_process("--version", folder=tmp_path).output == f"mmsearch {version}\n"


WRONG = """
run --study ../up
run --trials 0
run --steps -1
run --timeout inf
run --sampler magic
run --pruner magic
run --seed -1
run --config missing.toml
run --corpus missing.txt
corpus missing.txt
corpus .
run --storage me:secret@host/db
init --article --study few
trials --study none
trials --watch
confirm --top 0
ui --host 0.0.0.0
ui --host 0.0.0.0 --allowed-hosts *
nonsense
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_wrong_usage_exits_with_2(tmp_path: Path, line: str) -> None:
    """A slip of the fingers is a usage error or bad input, and leaves no folder."""
    done = run_in_process(*line.split(), folder=tmp_path, code=2)
    assert done.output or done.error
    assert not (tmp_path / "runs").exists()


def test_error_is_one_line_on_stderr(mmsearch: Mmsearch) -> None:
    """The installed command shows no traceback, and keeps stdout clean."""
    done = mmsearch("trials")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_command_says_which_signal_ended_it(
    tmp_path: Path, warm_command: Warm, number: signal.Signals
) -> None:
    """The exit code tells a supervisor that the command was ended, and did not fail."""
    end = replaced(READ_CORPUS, f"lambda *_, **__: signal.raise_signal({int(number)})")
    done = warm_command("corpus", folder=tmp_path, patch=end)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.count("\n") == 1


def answered(folder: Path, line: str, shell: str = "bash") -> list[str]:
    """Return what the command answers a shell that asks for the last word of a line."""
    asked = {"_MMSEARCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return run_in_process(folder=folder, code=0, **asked).output.split()


@pytest.fixture
def completed(tmp_path: Path) -> Path:
    """Make the files by which a study and its ended trials are known."""
    for name in ("few/study.json", "few/trials/0002/outcome.json", "few/trials/0003/outcome.json"):
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_answered(completed: Path, shell: str) -> None:
    """These are the shells that completion can be installed for."""
    assert "few" in " ".join(answered(completed, "mmsearch trials --study f", shell))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mmsearch run --study f", ["few"]),
        ("mmsearch init --study f", ["few"]),
        ("mmsearch sample --study few --trial 2", ["2"]),
        ("mmsearch replay ", ["2", "3"]),
        ("mmsearch losses --trial 2", ["2"]),
        ("mmsearch extend 3", ["3"]),
        ("mmsearch figures drawn --trial 3", ["3"]),
        ("mmsearch figures drawn --format s", ["svg"]),
        ("mmsearch run --sampler ra", ["random"]),
        ("mmsearch run --pruner hy", ["hyperband"]),
        ("mmsearch fin", ["final-test"]),
        ("mmsearch trials --study other", []),
        ("mmsearch trials --workspace nowhere --study ", []),
        ("mmsearch trials --workspace /proc/self/mem --study ", []),
        ("mmsearch sample --study no-such --trial ", []),
    ],
)
def test_studies_trials_and_choices_are_completed(
    completed: Path, line: str, words: list[str]
) -> None:
    """Names and numbers are those of the workspace; without any the prompt stays clean."""
    odd = completed / "runs/few/trials/odd"
    odd.mkdir()
    (odd / "outcome.json").touch()
    assert answered(completed, line) == words


def test_corpus_shows_what_cannot_be_seen_and_what_is_no_word_list(tmp_path: Path) -> None:
    """Invisible and rare characters by name, and the delimiter of a table."""
    words = [f"{word},{n}" for n, word in enumerate("abcdefghijkl")]
    unseen = "\u00ad\u200d\u200f\u00a0"
    lines = [*words, *(f"so{character}ft,1" for character in unseen), "e\u0323\u0302,2"]
    (tmp_path / "table.csv").write_text("\n".join(lines))

    printed = run_in_process("corpus", "--corpus", "table.csv", folder=tmp_path).output

    assert all(f"U+{ord(character):04X}" in printed for character in unseen)
    assert not any(character in printed for character in unseen)
    assert "','" in printed
    assert "--column" in printed
    found = json.loads(run_in_process("corpus", "table.csv", "--json", folder=tmp_path).output)
    assert found["table_delimiter"] == ","
    assert found["lengths"]["longest"] >= 3
    assert set(found["rare"]) < set(found["vocabulary"])
    run_in_process("corpus", "x", "--corpus", "x", folder=tmp_path, code=2)


def test_corpus_says_what_blanks_divide_and_that_a_heading_is_a_word(tmp_path: Path) -> None:
    """A table is told before anybody trains on its rows, and so is a heading among the words."""
    words = BUILTIN_CORPUS.read_text().split()[:20]
    rows = "".join(f"{word:<12} {n:>3}  1,5\n" for n, word in enumerate(words))
    (tmp_path / "bare").write_text(rows)
    (tmp_path / "table").write_text(f"name         no  share\n{rows}")
    for name, column, is_table, has_heading in (
        ("bare", "", True, False),
        ("bare", "1", False, False),
        ("table", "", True, False),
        ("table", "1", False, True),
        ("table", "name", False, False),
    ):
        asked = ("corpus", name, "--column", column)
        printed = run_in_process(*asked, folder=tmp_path).output
        found = json.loads(run_in_process(*asked, "--json", folder=tmp_path).output)
        assert found["reads_heading"] is has_heading is ("heading" in printed)
        assert bool(found["table_delimiter"]) is is_table
        assert ("--column" in printed) is (is_table or has_heading)
        assert found["words"] == 20 + (name == "table" and column != "name")


def test_corpus_prints_sizes_repeats_and_leaks(tmp_path: Path) -> None:
    """Repeats are dropped unless they are kept; kept ones leak into dev. No word of dev or test."""
    lines = BUILTIN_CORPUS.read_text().split()
    printed = run_in_process("corpus", "--json", folder=tmp_path).output
    values = json.loads(printed)
    kept = json.loads(
        run_in_process("corpus", "--json", "--keep-duplicates", folder=tmp_path).output
    )
    assert values["lines"] == len(lines)
    assert values["words"] == len(set(lines)) == sum(values[p] for p in ("train", "dev", "test"))
    assert values["dev_words_in_train"] == values["test_words_in_train"] == 0
    assert kept["words"] == len(lines)
    assert kept["dev_words_in_train"] > 0
    assert sum(kept["contexts"].values()) == sum(len(line) + 1 for line in lines)
    text = run_in_process("corpus", folder=tmp_path).output
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert f"{len(lines):,} lines" in text
    assert f"{values['train']:,} train" in rows["split"]
    assert all(f"{n:,} {part}" in rows["contexts"] for part, n in values["contexts"].items())
    assert f"median {values['lengths']['median']}" in rows["lengths"]
    assert len(values["examples"]) > 1
    assert all(word in rows["examples"] for word in values["examples"])
    shown = set(re.findall(r"[a-z]+", printed + text))
    split = split_corpus(read_corpus(BUILTIN_CORPUS))
    train = {*split.train, *split_corpus(read_corpus(BUILTIN_CORPUS, keep_duplicates=True)).train}
    assert set(values["examples"]) <= set(split.train)
    assert not shown & {word for word in set(lines) - train if len(word) > 5}
