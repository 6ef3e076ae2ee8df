"""The command line: what it says, what it refuses, and what it costs to ask."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from mmsearch.data.corpus import BUILTIN_CORPUS
from mmsearch.search.cli.app import app
from mmsearch.search.study.settings import Pruner, Sampler, Settings
from tests.support.commands import COMMAND, Mmsearch, environment
from tests.support.terminal import in_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = tuple(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(mmsearch: Mmsearch, command: str) -> None:
    """Every command says what it does, on any terminal."""
    done = mmsearch(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: mmsearch" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_names_each_command(command: str) -> None:
    """A command that stands in no page is not there for most people."""
    assert f"mmsearch {command}" in (ROOT / "README.md").read_text()


def test_help_imports_nothing_slow() -> None:
    """Asking for help takes no second: torch, MLflow, Optuna and matplotlib stay out."""
    code = "import sys, mmsearch.search.cli.app; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("torch", "mlflow", "optuna", "matplotlib", "numpy", "sqlalchemy"):
        assert f"'{name}'" not in done.stdout


def test_help_names_the_true_defaults() -> None:
    """The defaults in --help are those that a study gets."""
    options = {p.name: p for p in get_command(app).commands["run"].params}  # type: ignore[attr-defined]
    settings, kinds, n_choices = Settings(), get_type_hints(Settings), 0
    for field in fields(Settings):
        option = options.get(field.name)
        if option is not None and isinstance(option.show_default, str):
            assert option.show_default == str(getattr(settings, field.name))
        if option is not None and (choices := get_args(kinds[field.name])):
            assert option.help == f"{', '.join(choices)}."
            n_choices += len(choices)
    assert n_choices == len(get_args(Sampler)) + len(get_args(Pruner))


def test_help_of_run_fits_one_screen(mmsearch: Mmsearch) -> None:
    """What the search can be told is seen at one look."""
    assert len(mmsearch("run", "--help").stdout.splitlines()) <= 41


def test_version_is_the_package_s(mmsearch: Mmsearch) -> None:
    """It stands in pyproject.toml alone."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mmsearch("--version").stdout == f"mmsearch {said}\n"


def few_words(path: Path) -> None:
    """Nine distinct words: one too few."""
    path.write_text("\n".join(["ann"] * 20 + [f"word{'x' * n}" for n in range(8)]))


BAD_CORPORA: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(missing_ok=True),
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "few": few_words,
    "boundary": lambda path: path.write_text("\n".join(["a.b", *"abcdefghijklmno"])),
}


@pytest.mark.parametrize("kind", BAD_CORPORA)
def test_bad_corpus_is_one_clear_line(mmsearch: Mmsearch, tmp_path: Path, kind: str) -> None:
    """Bad input gives exit code 2, one line, and writes nothing."""
    path = tmp_path / "bad.txt"
    BAD_CORPORA[kind](path)
    for words in (("run", "--corpus", path), ("corpus", path)):
        done = mmsearch(*words)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("error: ")
        assert "bad.txt" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("[space", "not TOML"),
        ("[spaces]", "no table"),
        ("[space]\nwidth = 3", "no hyperparameter 'width'"),
        ("[space]\nlearning_rate = { low = 1, high = 0.1 }", "low = 1 above high"),
        ("[space]\nlearning_rate = { low = 0, high = 0.1 }", "above 0"),
        ("[space]\nhidden_width = 3.5", "whole numbers"),
        ("[training]\nsteps = 'many'", "whole number"),
        ("[training]\nsteps = 0", "at least 1"),
        ("[search]\nsampler = 'best'", "sampler must be one of"),
        ("[[enqueue]]\nhidden_width = 100000", "outside of its range"),
    ],
)
def test_bad_config_is_one_clear_line(
    mmsearch: Mmsearch, tmp_path: Path, config: str, complaint: str
) -> None:
    """A config that cannot be used is refused before anything is written."""
    path = tmp_path / "config.toml"
    path.write_text(config)
    done = mmsearch("run", "--config", path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--study", "../up"),
        ("run", "--study", "a/b"),
        ("run", "--study", "two\nlines"),
        ("run", "--trials", "0"),
        ("run", "--steps", "-1"),
        ("run", "--sampler", "magic"),
        ("run", "--pruner", "magic"),
        ("run", "--seed", "-1"),
        ("run", "--config", "missing.toml"),
        ("run", "--storage", "me:secret@host/db"),
        ("trials",),
        ("trials", "--study", "none"),
        ("sample",),
        ("sync",),
        ("confirm",),
        ("final-test",),
        ("replay", "0"),
        ("replay",),
        ("export", "somewhere"),
        ("ui",),
        ("ui", "--host", "0.0.0.0"),  # noqa: S104 (what is refused)
        ("ui", "--host", "0.0.0.0", "--allowed-hosts", "*"),  # noqa: S104 (likewise)
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_with_2(mmsearch: Mmsearch, tmp_path: Path, words: tuple[str]) -> None:
    """A slip of the fingers shows no traceback and leaves no folder."""
    done = mmsearch(*words)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_corpus_says_what_is_in_it(mmsearch: Mmsearch) -> None:
    """Sizes, repeats and leaks are known before a search, without a test word."""
    facts = json.loads(mmsearch("corpus", "--json").stdout)
    lines = BUILTIN_CORPUS.read_text().split()
    assert facts["lines"] == len(lines)
    assert facts["words"] == len(set(lines)) == facts["train"] + facts["dev"] + facts["test"]
    assert facts["dev_words_in_train"] == facts["test_words_in_train"] == 0
    kept = json.loads(mmsearch("corpus", "--json", "--keep-duplicates").stdout)
    assert kept["words"] == len(lines)
    assert kept["dev_words_in_train"] > 0
    assert f"{len(lines):,} lines" in mmsearch("corpus").stdout


def test_run_draws_itself_on_a_terminal(tmp_path: Path, small_corpus: Path) -> None:
    """The live display works in 80 columns and leaves the result on the screen."""
    words = ("run", "--corpus", small_corpus, "-n", 2, "--steps", 400)
    code, written = in_terminal(tmp_path, *words)
    assert code == 0, written
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "of 2 trials" in shown
    assert re.search(r"\nbest: trial \d, dev loss .*\n", shown.rpartition("\n2 of 2 trials")[2])
    assert "\x1b[?25h" in written, "the cursor is there again"


def answers(base: str) -> bool:
    """Whether a server takes connections there."""
    address = urlsplit(base)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_command_says_what_ended_it(tmp_path: Path, number: signal.Signals) -> None:
    """Who supervises it sees by the exit code that it was told to end, and did not fail."""
    process = subprocess.Popen(
        [COMMAND, "lr-range", "--steps", "100000"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not catches(process.pid, signal.SIGHUP):  # the last one that gets a handler
        assert process.poll() is None

    process.send_signal(number)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert told.count("\n") == 1


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_ui_opens_the_study_and_ends_with_a_signal(
    copied: Path, number: signal.Signals, code: int
) -> None:
    """`mmsearch ui` prints a link that answers, ends by Ctrl-C, and leaves no server behind."""
    process = subprocess.Popen(
        [COMMAND, "ui", "--no-browser"],
        cwd=copied,
        env=environment(copied),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    url = next(line.split()[-1] for line in lines if line.startswith("leaderboard"))
    base = url.partition("/#/")[0]
    assert base.startswith("http://127.0.0.1:")
    assert "workflowType=machine_learning" in url
    assert answers(base)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not answers(base)
