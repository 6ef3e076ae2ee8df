"""Each file of a workspace damaged in each way is named in one line, and nothing is overwritten."""

import json
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest

from mmsearch.tracking.journal.journal import Journal
from tests.support.cli_contract import assert_told, contents
from tests.support.drop_capabilities import UNPRIVILEGED
from tests.support.fault_injection import (
    APPEND_SEGMENT,
    EXIT_AT_TEST_WORDS,
    SEAL_BROKEN,
    STOP_SERVER,
    Kill,
)
from tests.support.forked_cli import Command, Done, Warm

STOP = UNPRIVILEGED + EXIT_AT_TEST_WORDS + STOP_SERVER
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
QUICK = ("trials", "sample", "chosen", "export", "final-test")
SLOW = ("replay", "confirm", "run")


@dataclass(frozen=True, slots=True)
class Target:
    """A file of a workspace."""

    path: str
    quick: tuple[str, ...]
    """Commands that refuse to work without the file, or with a damaged one."""
    slow: tuple[str, ...] = ()
    """More such commands, which take seconds each."""


TARGETS = (
    Target("few/study.json", QUICK[1:], ("replay", "run", "sync")),
    Target("few/confirm.json", ("chosen", "final-test"), ("confirm",)),
    Target("few/trials/0000/spec.json", QUICK, SLOW),
    Target("few/trials/0000/curve.jsonl", QUICK, SLOW),
    Target("few/trials/0000/outcome.json", QUICK, SLOW),
    Target("few/trials/0000/weights.safetensors", ("sample", "export"), ("replay",)),
    Target("few/trials/0004/spec.json", ("trials",), ("run",)),
    Target("few/confirm/0000/spec.json", ("chosen",), ("confirm",)),
    Target("few/confirm/0000/curve.jsonl", ("chosen",), ("confirm",)),
    Target("few/confirm/0000/outcome.json", ("chosen",), ("confirm",)),
    Target("optuna.db", ("final-test",)),
    Target("mlflow.db", ("final-test",), ("ui",)),  # `sync` fills Optuna's all the same
)
"""The fifth trial, 0004, was killed in training; of the confirmation one training is tried."""


def cut(path: Path) -> None:
    """Lose its last third."""
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip(path: Path) -> None:
    """Change some bytes of its last two thirds; in a database, of the page that every reader needs.

    Bytes in a page that no command reads are not noticed.
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
    """Replace each value by one of another type."""
    empty_spec = {"spec", "facts", "settings"}
    rewrite(
        path,
        lambda values: {
            key: dict.fromkeys(value) if key in empty_spec else {} if key != "format" else value
            for key, value in values.items()
        },
    )


DAMAGES = (cut, flip, empty, become_a_folder, lock_up, swap, age, mistype)
EXCLUDED = {".db": {mistype, empty}, ".safetensors": {age, mistype}}
"""An emptied database counts as a new one, and weights have neither a version nor types."""
PAIRS = [
    (target, damage)
    for target in TARGETS
    for damage in DAMAGES
    if damage not in EXCLUDED.get(os.path.splitext(target.path)[1], ())  # noqa: PTH122 (a text)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, searched: Path, warm_command: Warm) -> Path:
    """Return a workspace with four trials, a confirmation, and a fifth trial that was killed."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(
        searched / "runs", folder / "runs", ignore=shutil.ignore_patterns("artifacts", "logs")
    )
    warm_command(*COMMANDS["confirm"], folder=folder, code=0)
    kill = Kill(call=APPEND_SEGMENT, at="after")
    warm_command(*COMMANDS["run"], folder=folder, patch=kill.patch, code=-9)
    for name in ("optuna.db", "mlflow.db"):
        with closing(sqlite3.connect(folder / "runs" / name)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def copy(whole: Path, folder: Path) -> Path:
    """Copy all that commands read."""
    shutil.copytree(whole / "runs", folder / "runs", ignore=shutil.ignore_patterns("artifacts"))
    return folder


def assert_refused(done: Done, path: str, where: object) -> None:
    """Check that a command named the file, or the trial's folder, in one line."""
    assert done.returncode in {1, 2, 3}, (where, done.returncode, done.stdout, done.stderr)
    assert_told(done)
    is_record = "/0" in path and not path.endswith(".safetensors")
    named = path.rpartition("/")[0] if is_record else path
    assert named.removeprefix("few/") in done.stderr, (where, done.stderr)


def check(
    whole: Path,
    folder: Path,
    warm: Warm,
    cases: Sequence[tuple[Target, Callable[[Path], None], tuple[str, ...]]],
) -> None:
    """Damage files, and check that commands refuse each and change nothing."""
    copies, commands = [], []
    for number, (target, damage, names) in enumerate(cases):
        place = copy(whole, folder / str(number))
        damage(place / "runs" / target.path)
        copies.append((place, contents(place)))
        commands += [Command(COMMANDS[name], place, STOP) for name in names]
    done = iter(warm.together(commands))
    for (target, damage, names), (place, before) in zip(cases, copies, strict=True):
        for name in names:
            assert_refused(next(done), target.path, (target.path, damage.__name__, name))
        assert contents(place) == before, (target.path, damage.__name__)


@pytest.mark.parametrize("offset", range(4))
def test_damaged_file_is_named_and_nothing_changes(
    whole: Path, tmp_path: Path, warm_command: Warm, offset: int
) -> None:
    """Each file, damaged in each way, is refused by a command that reads it, by its name."""
    cases = [
        (target, damage, (target.quick[number % len(target.quick)],))
        for number, (target, damage) in enumerate(PAIRS)
    ]
    check(whole, tmp_path, warm_command, cases[offset::4])


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.path)
def test_damaged_file_is_named_by_every_command_that_reads_it(
    whole: Path, tmp_path: Path, warm_command: Warm, target: Target
) -> None:
    """All pairs of a command and a damage, the commands that train or upload included."""
    mine = [(each, damage) for each, damage in PAIRS if each == target]
    names = [target.quick, *((name,) for name in target.slow)]
    for each in names:  # of the slow ones only one may hold the study's lock
        cases = [(target, damage, each) for target, damage in mine]
        check(whole, tmp_path / "-".join(each), warm_command, cases)


def test_the_commands_succeed_on_a_whole_workspace(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """What the other tests see refused is refused for the damage alone."""
    copy(whole, tmp_path)
    done = warm_command.together([Command(COMMANDS[name], tmp_path, STOP) for name in QUICK])
    codes = [one.returncode for one in done]
    assert codes == [0, 0, 0, 0, SEAL_BROKEN], [one.stderr for one in done]
    (tmp_path / "sealed").write_text("")
    (tmp_path / "sealed").chmod(0)
    unread = 'open("sealed").read()'
    denied = warm_command("trials", folder=tmp_path, patch=UNPRIVILEGED + unread)
    assert "PermissionError" in denied.stderr, "root still reads files of mode 000"


def test_damaged_weights_of_a_stopped_trial_are_trained_again(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """The segments of an unfinished trial are trained anew, to the same bits."""
    copies = [copy(whole, tmp_path / damage.__name__) for damage in (cut, swap)]
    for damage, place in zip((cut, swap), copies, strict=True):
        damage(place / "runs/few/trials/0004/weights.safetensors")
    for words in (COMMANDS["run"], ("replay", 4)):
        for done in warm_command.together([Command(words, place) for place in copies]):
            assert done.returncode == 0, done.stdout + done.stderr
            assert_told(done)


@pytest.mark.parametrize("damage", [become_a_folder, lock_up], ids=lambda damage: damage.__name__)
def test_lock_that_cannot_be_one_is_named(
    whole: Path, tmp_path: Path, warm_command: Warm, damage: Callable[[Path], None]
) -> None:
    """Without its lock a study is neither searched nor listed as searched."""
    names = ("trials", "final-test", "confirm", "sync", "run")
    cases = [(Target("few/lock", ()), damage, names)]
    check(whole, tmp_path, warm_command, cases)


def test_text_in_a_lock_does_not_matter(whole: Path, tmp_path: Path, warm_command: Warm) -> None:
    """The operating system holds the lock; the text only names its owner."""
    copy(whole, tmp_path)
    swap(tmp_path / "runs/few/lock")
    warm_command("trials", folder=tmp_path, code=0)
    warm_command("final-test", folder=tmp_path, patch=STOP, code=SEAL_BROKEN)


def test_emptied_optuna_database_is_filled_and_opens_no_test_word(
    whole: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """A search fills it in; the test split stays shut until `sync` has brought its claims."""
    copy(whole, tmp_path)
    database = tmp_path / "runs/optuna.db"
    empty(database)
    for name, code in (
        ("final-test", 3), ("run", 0), ("final-test", 3), ("sync", 0), ("final-test", SEAL_BROKEN)
    ):  # fmt: skip
        patch = STOP if name == "final-test" else ""
        warm_command(*COMMANDS[name], folder=tmp_path, patch=patch, code=code)
    numbers = Journal(tmp_path / "runs/few").numbers()
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{database}")
    assert [trial.number for trial in study.trials] == numbers


@pytest.mark.parametrize(("name", "title"), [("mlflow", "MLflow"), ("optuna", "Optuna's storage")])
def test_search_goes_on_over_a_damaged_view(
    whole: Path, tmp_path: Path, warm_command: Warm, name: str, title: str
) -> None:
    """A damaged view costs a line of output and no trial, and is not written into."""
    damages = (cut, lock_up) if name == "optuna" else (cut, lock_up, swap)
    copies = [copy(whole, tmp_path / damage.__name__) for damage in damages]
    path, before = f"runs/{name}.db", []
    for damage, place in zip(damages, copies, strict=True):
        damage(place / path)
        before.append(contents(place)[path])
    for words, named in ((COMMANDS["run"], title), (COMMANDS["sync"], path)):
        ended = warm_command.together([Command(words, place, UNPRIVILEGED) for place in copies])
        for place, old, done in zip(copies, before, ended, strict=True):
            assert (done.returncode == 0) == (words == COMMANDS["run"]), done
            assert_told(done)
            assert contents(place)[path] == old
            assert named in done.stdout + done.stderr


def test_wrong_database_gets_no_table(whole: Path, tmp_path: Path, warm_command: Warm) -> None:
    """MLflow's file given to Optuna, or Optuna's to MLflow, is refused and stays as it is."""
    copy(whole, tmp_path)
    before = contents(tmp_path)
    for words in (
        ("run", "--study", "new", "-n", 1, "--storage", "sqlite:///runs/mlflow.db"),
        ("sync", "--tracking-uri", "sqlite:///runs/optuna.db"),
    ):
        done = warm_command(*words, folder=tmp_path)
        assert done.returncode in {1, 2}, (words, done.stdout)
        assert_told(done)
        assert str(words[-1]).rpartition("/")[2] in done.stderr
    after = contents(tmp_path)
    same = before.keys() - {"runs/optuna.db"}  # `sync` has added the trial that was killed
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    with closing(sqlite3.connect(tmp_path / "runs/optuna.db")) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert "experiments" not in {name for (name,) in rows}


def outdate(path: Path) -> None:
    """Make a database of MLflow one of a later version."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")


def forge(path: Path) -> None:
    """Give runs and models of MLflow's database names that lead elsewhere."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE logged_models SET model_id = '../' || model_id")
        connection.execute("UPDATE runs SET run_uuid = '../' || run_uuid")


@pytest.mark.parametrize(
    ("path", "damage", "words"),
    [
        ("mlflow.db", outdate, ("ui", "--no-browser")),
        ("mlflow.db", forge, ("final-test",)),
        ("optuna.db", flip, ("final-test",)),
        ("optuna.db", flip, ("sync",)),
        ("few/confirm.json", flip, ("sample",)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_hint_is_a_line_that_mends_the_damage(
    reconfirmed: Path,
    warm_command: Warm,
    path: str,
    damage: Callable[[Path], None],
    words: Sequence[object],
) -> None:
    """It can be pasted once the file has been moved away, in any workspace."""
    place = reconfirmed / "my runs"
    (reconfirmed / "runs").rename(place)
    damage(place / path)
    words = (*words, "--workspace", "my runs")
    said = warm_command(*words, folder=reconfirmed, patch=STOP).stderr
    (place / path).unlink()
    if path == "mlflow.db":
        shutil.rmtree(place / "artifacts")

    line = re.findall(r"mmsearch [a-z]+ .*", said)[-1]
    confirms = line.startswith("mmsearch confirm")
    short = ("--top", 2, "--seeds", 1, "--workers", 1) if confirms else ()
    warm_command(*shlex.split(line)[1:], *short, folder=reconfirmed, code=0)

    assert line not in warm_command(*words, folder=reconfirmed, patch=STOP).stderr
