"""Commands run in the tests' own process, for what needs no process of its own: parsing, usage."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from mmsearch.errors import MMSearchError
from mmsearch.search.cli.app import app
from tests.support.commands import environment


@dataclass(frozen=True, slots=True)
class Result:
    """A command that has ended."""

    exit_code: int
    output: str
    """What it printed."""
    error: str = ""
    """The message of the error that it raised, if any."""


def run_in_process(*words: object, folder: Path, code: int | None = None, **env: str) -> Result:
    """Run a command in a folder that is also its home, to this exit code if one is given.

    No traceback counts as an answer, and an error is one line.
    """
    umask = os.umask(0o022)
    runner = CliRunner(env={**environment(folder), "PYTHONSAFEPATH": "1", **env})
    try:
        with contextlib.chdir(folder):
            done = runner.invoke(app, [str(word) for word in words], prog_name="mmsearch")
    finally:
        os.umask(umask)
    if isinstance(done.exception, MMSearchError):
        result = Result(done.exception.exit_code, done.output, str(done.exception))
    elif done.exception is None or isinstance(done.exception, SystemExit):
        result = Result(done.exit_code, done.output)
    else:
        raise done.exception
    assert code in {None, result.exit_code}, (words, result)
    assert "\n" not in result.error, result.error
    return result
