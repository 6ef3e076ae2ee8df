"""The command line as a whole: help, usage, bad input, and the signals that end a command."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
from typer.main import get_command

from mmsearch.search.cli.app import app
from mmsearch.search.study.settings import Settings
from tests.support.commands import COMMAND, environment
from tests.support.fault_injection import READ_CORPUS, replaced
from tests.support.in_process import run_in_process

if TYPE_CHECKING:
    from tests.support.forked_cli import Warm

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = tuple(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(tmp_path: Path, command: str) -> None:
    """Every command, and each of its options, says what it does, on any terminal."""
    done = run_in_process(*command.split(), "--help", folder=tmp_path)
    assert done.exit_code == 0
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


BAD_CORPORA: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "binary": bytes(range(256)) * 20,
    "few": b"ann\n" * 20 + b"\n".join(b"word" + b"x" * n for n in range(8)),  # nine: one too few
    "boundary": b"a.b\n" + b"\n".join(b"%c" % letter for letter in b"abcdefghijklmno"),
}


@pytest.mark.parametrize("kind", BAD_CORPORA)
def test_bad_corpus_is_named(tmp_path: Path, kind: str) -> None:
    """A corpus that cannot be used is named in one line, and nothing is written."""
    content = BAD_CORPORA[kind]
    if content is not None:
        (tmp_path / "bad.txt").write_bytes(content)
    for words in (("run", "--corpus", "bad.txt"), ("corpus", "bad.txt")):
        done = run_in_process(*words, folder=tmp_path)
        assert done.exit_code == 2
        assert len(done.error.splitlines()) == 1
        assert "bad.txt" in done.error
    assert not (tmp_path / "runs").exists()


def test_bad_config_is_named(tmp_path: Path) -> None:
    """A config that cannot be used is named, with what is wrong, before anything is written."""
    for content, named in (("[space", "TOML"), ("[spaces]", "spaces"), ("[space]\nx = 3", "'x'")):
        (tmp_path / "bad.toml").write_text(content)
        done = run_in_process("run", "--config", "bad.toml", folder=tmp_path)
        assert done.exit_code == 2
        assert "bad.toml" in done.error
        assert named in done.error
    assert not (tmp_path / "runs").exists()


WRONG = """
run --study ../up
run --trials 0
run --steps -1
run --timeout inf
run --sampler magic
run --pruner magic
run --seed -1
run --config missing.toml
run --storage me:secret@host/db
lr-range --apply
lr-range --low 1 --high 0.1
init --article --study few
trials
trials --study none
trials --watch
sample
sync
confirm
confirm --top 0
final-test
replay
export somewhere
report
ui
ui --host 0.0.0.0
ui --host 0.0.0.0 --allowed-hosts *
nonsense
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_wrong_usage_exits_with_2(tmp_path: Path, line: str) -> None:
    """A slip of the fingers is a usage error or bad input, and leaves no folder."""
    done = run_in_process(*line.split(), folder=tmp_path)
    assert done.exit_code == 2
    assert done.output or done.error
    assert not (tmp_path / "runs").exists()


def test_error_is_one_line_on_stderr(tmp_path: Path) -> None:
    """The installed command shows no traceback, and keeps stdout clean."""
    done = subprocess.run(
        [COMMAND, "trials"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
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
