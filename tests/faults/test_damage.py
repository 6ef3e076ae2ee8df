"""Each file of a workspace damaged in each way: one line that names it, and nothing overwritten."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from mmsearch.tracking.journal.journal import Journal
from tests.support.cli_contract import assert_told, contents
from tests.support.drop_capabilities import UNPRIVILEGED
from tests.support.forked_cli import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

KILL = """
import os
from mmsearch.tracking.journal.journal import Journal

append = Journal.append

def append_and_die(self, *arguments, **keywords):
    append(self, *arguments, **keywords)
    os.kill(os.getpid(), 9)

Journal.append = append_and_die
"""
"""`kill -9` after the first segment."""
STOP = (
    UNPRIVILEGED
    + """
import os
import subprocess
from mmsearch.search.results.final_evaluation import _Examination

_Examination._look = lambda self, look: os._exit(77)
subprocess.Popen.wait = lambda self, timeout=None: self.kill() or 0
"""
)
"""Ends `final-test` where it would open the test words, and `ui` once its server answers."""
LOOKED = 77
COMMANDS: dict[str, tuple[object, ...]] = {
    "trials": ("trials",),
    "sample": ("sample", "--trial", 0, "-n", 2),
    "chosen": ("sample", "-n", 2),
    "export": ("export", "taken", "--trial", 0),
    "replay": ("replay", 0),
    "final-test": ("final-test",),
    "confirm": ("confirm", "--top", 2, "--seeds", 1, "--workers", 1),
    "sync": ("sync",),
    "run": ("run", "--study", "few", "-n", 5, "--workers", 1),
    "ui": ("ui", "--no-browser"),
}
OWNERS = ("final-test", "confirm", "sync", "run")
"""Those that take the study's lock, of which one at a time may."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file of a workspace."""

    path: str
    refusing: tuple[str, ...]
    """Commands that cannot do without it, whatever has happened to it."""
    slow: tuple[str, ...] = ()
    """Likewise, at the price of seconds each."""
    named: str = ""
    """What a refusal names, where it is not the file."""


ALL = ("trials", "sample", "chosen", "export", "final-test")
TARGETS = {
    "study": Target(
        "few/study.json", ("sample", "chosen", "export", "final-test"), ("replay", "run", "sync")
    ),
    "plan": Target("few/confirm.json", ("chosen", "final-test"), ("confirm",)),
    "spec": Target("few/trials/0000/spec.json", ALL, ("replay", "confirm", "run"), "trials/0000"),
    "curve": Target(
        "few/trials/0000/curve.jsonl", ALL, ("replay", "confirm", "run"), "trials/0000"
    ),
    "outcome": Target(
        "few/trials/0000/outcome.json", ALL, ("replay", "confirm", "run"), "trials/0000"
    ),
    "weights": Target("few/trials/0000/weights.safetensors", ("sample", "export"), ("replay",)),
    "stopped spec": Target("few/trials/0004/spec.json", ("trials",), ("run",), "trials/0004"),
    "repeat spec": Target("few/confirm/0000/spec.json", ("chosen",), ("confirm",), "confirm/0000"),
    "repeat curve": Target(
        "few/confirm/0000/curve.jsonl", ("chosen",), ("confirm",), "confirm/0000"
    ),
    "repeat outcome": Target(
        "few/confirm/0000/outcome.json", ("chosen",), ("confirm",), "confirm/0000"
    ),
    "optuna": Target("optuna.db", ("final-test",)),
    "mlflow": Target("mlflow.db", ("final-test",), ("sync", "ui")),
}


def cut(path: Path) -> None:
    """Lose its last third."""
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip(path: Path) -> None:
    """Change some bytes of its last two thirds; of a database, of the page that every reader needs.

    What lies in a page that nobody reads is nobody's to notice.
    """
    content = bytearray(path.read_bytes())
    start, end = (100, 4096) if path.suffix == ".db" else (len(content) // 3, len(content))
    for place in range(start, end, max(1, (end - start) // 27)):
        content[place] ^= 0x15
    path.write_bytes(content)


def empty(path: Path) -> None:
    """Lose all of it."""
    os.truncate(path, 0)


def become_a_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def lock_up(path: Path) -> None:
    """Let nobody read it."""
    path.chmod(0)


def swap(path: Path) -> None:
    """Put a whole file of another kind in its place."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (name,) in rows.fetchall():
                if not name.startswith("sqlite_"):
                    connection.execute(f'ALTER TABLE "{name}" RENAME TO "their_{name}"')
            connection.commit()
    elif path.suffix == ".safetensors":
        shutil.copy(path.parents[1] / "0001/weights.safetensors", path)
    else:
        path.write_text('{"a": 1, "spec": {}, "facts": {}}\n')


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change each JSON object of a file."""
    if path.suffix == ".json":
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    else:
        lines = [change(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def age(path: Path) -> None:
    """Make it one of a later version."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'later'")
            if path.name == "optuna.db":
                connection.execute("UPDATE version_info SET schema_version = 99")
            connection.commit()
    else:
        rewrite(path, lambda values: {**_deeper(values, later=1), "format": 99, "later": 1})


def _deeper(values: dict[str, Any], **more: object) -> dict[str, Any]:
    return {k: {**v, **more} if isinstance(v, dict) else v for k, v in values.items()}


def mistype(path: Path) -> None:
    """Give each value another type."""
    empty_spec = {"spec", "facts", "settings"}
    rewrite(
        path,
        lambda values: {
            key: dict.fromkeys(value) if key in empty_spec else {} if key != "format" else value
            for key, value in values.items()
        },
    )


DAMAGES = (cut, flip, empty, become_a_folder, lock_up, swap, age, mistype)
NOT_FOR = {
    ".db": (mistype, empty),  # an empty database is a new one: see below
    ".safetensors": (age, mistype),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, searched: Path, warm_command: Warm) -> Path:
    """Give a workspace with four trials, a confirmation, and a fifth trial that was killed."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(searched / "runs", folder / "runs")
    done = warm_command(*COMMANDS["confirm"], folder=folder)
    assert done.returncode == 0, done.stderr
    done = warm_command(*COMMANDS["run"], folder=folder, patch=KILL)
    assert done.returncode == -9
    for name in ("optuna.db", "mlflow.db"):
        with closing(sqlite3.connect(folder / "runs" / name)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def copy(whole: Path, folder: Path) -> Path:
    """Copy all that commands read."""
    shutil.copytree(whole / "runs", folder / "runs", ignore=shutil.ignore_patterns("artifacts"))
    return folder


def damages_of(target: Target) -> Iterable[Callable[[Path], None]]:
    """Give what can happen to a file."""
    excluded = NOT_FOR.get(target.path[target.path.rfind(".") :], ())
    return (damage for damage in DAMAGES if damage not in excluded)


def assert_refused(done: Done, target: Target, where: tuple[str, ...]) -> None:
    """Hold that a command said in one line which file is at fault."""
    assert done.returncode in {1, 2, 3}, (where, done.returncode, done.stdout, done.stderr)
    assert_told(done)
    assert (target.named or target.path) in done.stderr, (where, done.stderr)


def check(whole: Path, folder: Path, warm: Warm, target: Target, names: tuple[str, ...]) -> None:
    """Damage a file in each way, and hold that each command refuses and changes nothing."""
    places, commands = [], []
    for damage in damages_of(target):
        place = copy(whole, folder / damage.__name__)
        damage(place / "runs" / target.path)
        places.append((damage, place, contents(place)))
        commands += [Command(COMMANDS[name], place, STOP) for name in names]
    done = iter(warm.together(commands))
    for damage, place, before in places:
        for name in names:
            assert_refused(next(done), target, (target.path, damage.__name__, name))
        assert contents(place) == before, (target.path, damage.__name__)


@pytest.mark.parametrize("kind", TARGETS)
def test_damaged_file_is_named_and_nothing_changes(
    whole: Path, tmp_path: Path, warm_command: Warm, kind: str
) -> None:
    """Cut, flipped, emptied, unreadable, a folder, foreign, of another version: refused by name."""
    check(whole, tmp_path, warm_command, TARGETS[kind], TARGETS[kind].refusing)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, target in TARGETS.items() for name in target.slow]
)
def test_damaged_file_is_named_by_commands_that_train_and_send(
    whole: Path, tmp_path: Path, warm_command: Warm, kind: str, name: str
) -> None:
    """The slow commands refuse likewise."""
    check(whole, tmp_path, warm_command, TARGETS[kind], (name,))


def test_the_commands_succeed_on_what_is_whole(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """What is refused below is refused for the damage alone; nobody may read mode 000."""
    quick = ("trials", "sample", "chosen", "export", "final-test")
    copy(whole, tmp_path)
    done = warm_command.together([Command(COMMANDS[name], tmp_path, STOP) for name in quick])
    assert [one.returncode for one in done] == [0, 0, 0, 0, LOOKED], [one.stderr for one in done]
    unread = 'open("sealed").read()'
    (tmp_path / "sealed").write_text("")
    (tmp_path / "sealed").chmod(0)
    denied = warm_command("trials", folder=tmp_path, patch=UNPRIVILEGED + unread)
    assert "PermissionError" in denied.stderr


def test_damaged_weights_of_a_stopped_trial_are_trained_again(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """What is not finished is no result: its segments are trained anew, to the same bits."""
    damages = (cut, swap)
    places = [copy(whole, tmp_path / damage.__name__) for damage in damages]
    for damage, place in zip(damages, places, strict=True):
        damage(place / "runs/few/trials/0004/weights.safetensors")
    for words in (COMMANDS["run"], ("replay", 4)):
        for done in warm_command.together([Command(words, place) for place in places]):
            assert done.returncode == 0, done.stdout + done.stderr
            assert_told(done)


@pytest.mark.parametrize("damage", [become_a_folder, lock_up], ids=lambda damage: damage.__name__)
def test_lock_that_cannot_be_one_is_named(
    whole: Path, tmp_path: Path, warm_command: Warm, damage: Callable[[Path], None]
) -> None:
    """Without its lock a study is neither searched nor said to be."""
    copy(whole, tmp_path)
    damage(tmp_path / "runs/few/lock")
    before = contents(tmp_path)
    names = ("trials", *OWNERS)
    done = warm_command.together([Command(COMMANDS[name], tmp_path, STOP) for name in names])
    for name, one in zip(names, done, strict=True):
        assert_refused(one, Target("few/lock", ()), ("lock", damage.__name__, name))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", [cut, empty, swap], ids=lambda damage: damage.__name__)
def test_what_a_lock_says_matters_to_nobody(
    whole: Path, tmp_path: Path, warm_command: Warm, damage: Callable[[Path], None]
) -> None:
    """The system holds it, not its text."""
    copy(whole, tmp_path)
    damage(tmp_path / "runs/few/lock")
    assert warm_command("trials", folder=tmp_path).returncode == 0
    assert warm_command(*COMMANDS["final-test"], folder=tmp_path, patch=STOP).returncode == LOOKED


def test_emptied_optuna_database_is_filled_and_knows_of_no_look(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """A search fills it in; the test split stays shut until `sync` has brought the looks."""
    copy(whole, tmp_path)
    database = tmp_path / "runs/optuna.db"
    empty(database)
    for name, returncode in (("final-test", 3), ("run", 0), ("final-test", 3)):
        done = warm_command(*COMMANDS[name], folder=tmp_path, patch=STOP)
        assert done.returncode == returncode, done
        assert_told(done)
    assert "mmsearch sync" in done.stderr

    assert warm_command(*COMMANDS["sync"], folder=tmp_path).returncode == 0

    assert warm_command(*COMMANDS["final-test"], folder=tmp_path, patch=STOP).returncode == LOOKED
    numbers = Journal(tmp_path / "runs/few").numbers()
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{database}")
    assert [trial.number for trial in study.trials] == numbers


@pytest.mark.parametrize(("name", "title"), [("mlflow", "MLflow"), ("optuna", "Optuna's storage")])
def test_search_goes_on_over_a_damaged_view(
    whole: Path, tmp_path: Path, warm_command: Warm, name: str, title: str
) -> None:
    """A view only shows: damaged, it costs a line and no trial, and is not written into."""
    damages = (cut, lock_up) if name == "optuna" else (cut, lock_up, swap)
    places = [copy(whole, tmp_path / damage.__name__) for damage in damages]
    path, before = f"runs/{name}.db", []
    for damage, place in zip(damages, places, strict=True):
        damage(place / path)
        before.append(contents(place)[path])
    for words, is_refused in ((COMMANDS["run"], False), (COMMANDS["sync"], True)):
        ended = warm_command.together([Command(words, place, UNPRIVILEGED) for place in places])
        for place, old, done in zip(places, before, ended, strict=True):
            assert (done.returncode != 0) == is_refused, done
            assert_told(done)
            assert contents(place)[path] == old
            if is_refused:
                assert path in done.stderr
            else:
                assert f"{title} is unreachable" in done.stdout + done.stderr


def test_slip_of_a_database_adds_no_table(whole: Path, tmp_path: Path, warm_command: Warm) -> None:
    """MLflow's file given to Optuna, or the other way round, stays as it is."""
    copy(whole, tmp_path)
    before = contents(tmp_path)
    slips = itertools.chain(
        (("run", "--study", "new", "-n", 1, "--storage", "sqlite:///runs/mlflow.db"),),
        (("sync", "--tracking-uri", "sqlite:///runs/optuna.db"),),
    )
    for words in slips:
        done = warm_command(*words, folder=tmp_path)
        assert done.returncode in {1, 2}, (words, done.stdout)
        assert_told(done)
        assert "of something else" in done.stderr
    after = contents(tmp_path)
    same = before.keys() - {"runs/optuna.db"}  # `sync` has told it of the trial that was killed
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    with closing(sqlite3.connect(tmp_path / "runs/optuna.db")) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert "experiments" not in {name for (name,) in rows}
