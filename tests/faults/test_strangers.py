"""A workspace from a stranger runs no code of its own, and reaches nothing outside itself."""

import hashlib
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from tests.support.fault_injection import SPAWN_WORKERS, STOP_SERVER
from tests.support.forked_cli import Command, Done, Warm

COMMANDS: dict[str, tuple[object, ...]] = {
    "run": ("run", "--study", "few", "-n", 5, "--workers", 1),
    "sync": ("sync",),
    "ui": ("ui", "--no-browser"),
    "trials": ("trials",),
    "sample": ("sample",),
    "losses": ("losses",),
    "replay": ("replay", 0),
    "export": ("export", "exported"),
    "figures": ("figures", "drawn"),
    "report": ("report",),
    "lr-range": ("lr-range", "--study", "few", "--steps", 50, "--seeds", 1),
    "confirm": ("confirm", "--top", 1, "--seeds", 1),
    "extend": ("extend", 0, "--steps", 20),
    "final-test": ("final-test", "--trial", 0),
    "exclude": ("exclude", 0, "--reason", "leaks"),
    "delete": ("delete", "few", "--yes"),
}
PATCHES = {"run": SPAWN_WORKERS, "ui": STOP_SERVER}
MODULES = (
    *("json", "matplotlib", "mlflow", "mmsearch", "multiprocessing", "numpy", "optuna", "pickle"),
    *("runpy", "safetensors", "sitecustomize", "threading", "torch", "usercustomize", "uvicorn"),
)
LINKS = (
    *("few", "few/lock", "few/study.json", "few/.study.json.new", "few/confirm", "few/trials"),
    *("few/trials/0000", "few/trials/0000/curve.jsonl", "few/trials/0000/.weights.safetensors.new"),
    *("few/trials/0099/spec.json", "optuna.db", "optuna.db-lock", "optuna.db-wal", "mlflow.db"),
    *(".mlflow.db.new", "artifacts/deep/er/loss.png", "logs", "other/study.json"),
)


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the call that unpickling makes."""
        return os.mkdir, (self._folder,)


def change_study(folder: Path, **changes: object) -> None:
    """Change fields of study.json."""
    path = folder / "runs/few/study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def execute(database: Path, *statements: str) -> None:
    """Change a database directly."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def tree(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def call(warm_command: Warm, folder: Path, name: str) -> Done:
    """Run a command by its name."""
    return warm_command(*COMMANDS[name], folder=folder, patch=PATCHES.get(name, ""))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Create a folder of the user's own, beside the workspace."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine\n")
    execute(folder / "mine.db", "CREATE TABLE mine (x)")
    return folder


@pytest.fixture
def trapped(copied: Path) -> Path:
    """Put a payload wherever one might be loaded; if one is, the folder `ran` appears."""
    payload = pickle.dumps(Payload(copied / "ran"))
    path = copied / "runs/few/study.json"
    settings = json.loads(path.read_text())["settings"]
    change_study(copied, settings=settings | {"sampler": "cmaes"})
    attributes = {"cma:optimizer:0": payload.hex(), "cma:generation": 0}
    for key, value in attributes.items():
        execute(
            copied / "runs/optuna.db",
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) "  # noqa: S608 (ours)
            f"SELECT trial_id, '{key}', '{json.dumps(value)}' FROM trials",
        )
    for folder in [p for p in (copied / "runs/artifacts").glob("*/artifacts") if p.is_dir()]:
        for name in ("python_model.pkl", "model/model.pkl", "model/data.pkl"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(payload)
    for name in MODULES:
        (copied / f"{name}.py").write_text(f"import os; os.mkdir({str(copied / 'ran')!r})\n")
    (copied / "matplotlibrc").write_text("backend: module://uvicorn\n")
    return copied


def test_strangers_workspace_runs_no_code(trapped: Path, warm_command: Warm) -> None:
    """No pickle in its databases and files is loaded, and no module is imported from its folder."""
    for name in COMMANDS:
        done = call(warm_command, trapped, name)
        assert not (trapped / "ran").exists(), name
        assert name == "ui" or done.returncode == 0, (name, done.stderr)


def study_attributes(folder: Path) -> set[str]:
    """Read the state that Optuna's CMA-ES would load."""
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{folder}/runs/optuna.db")
    return {trial.system_attrs["cma:optimizer:0"] for trial in study.trials}


def test_the_payloads_do_run_when_loaded(trapped: Path) -> None:
    """Unpickling does run the payload, and so does Python started in the folder."""
    (state,) = study_attributes(trapped)
    pickle.loads(bytes.fromhex(state))  # noqa: S301 (that is the danger)
    assert (trapped / "ran").exists()
    (trapped / "ran").rmdir()
    with subprocess.Popen([sys.executable, "-c", "import mlflow"], cwd=trapped):
        pass
    assert (trapped / "ran").exists()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_weights_that_are_a_pickle_are_refused(copied: Path, warm_command: Warm, kind: str) -> None:
    """Even if the journal records their hash: weights are read as safetensors or not at all."""
    folder = copied / "runs/few/trials/0000"
    path = folder / "weights.safetensors"
    if kind == "torch":
        torch.save(Payload(copied / "ran"), path)
    else:
        path.write_bytes(pickle.dumps(Payload(copied / "ran")))
    *lines, last = (folder / "curve.jsonl").read_text().splitlines()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    lines.append(json.dumps(json.loads(last) | {"weights_sha256": sha256}))
    (folder / "curve.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for words in (("sample", "--trial", 0), ("replay", 0), ("final-test", "--trial", 0)):
        done = warm_command(*words, folder=copied)
        assert done.returncode in {1, 2, 3}, words
        assert "Traceback" not in done.stderr, done.stderr
    assert not (copied / "ran").exists()


def test_links_are_not_followed(copied: Path, mine: Path, warm_command: Warm) -> None:
    """Wherever a link stands in a workspace, the command refuses before it opens a file."""
    for name in LINKS:
        path, real = copied / "runs" / name, copied / "real"
        had_parent, was_there = path.parent.is_dir(), path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        if was_there:
            path.rename(real)
        path.symlink_to(mine if real.is_dir() else mine / "notes.txt")
        before = tree(mine)

        done = call(warm_command, copied, "run")

        assert done.returncode == 2, name
        assert str(path) in done.stderr.replace("\n", "")
        assert tree(mine) == before
        path.unlink()
        if was_there:
            real.rename(path)
        elif not had_parent:
            path.parent.rmdir()


def test_every_command_refuses_links(copied: Path, mine: Path, warm_command: Warm) -> None:
    """So do commands that only read, since they show what they read."""
    link = copied / "runs/artifacts/loose"
    link.symlink_to(mine)
    commands = [Command(words, copied, PATCHES.get(n, "")) for n, words in COMMANDS.items()]
    for name, done in zip(COMMANDS, warm_command.together(commands), strict=True):
        assert done.returncode == 2, (name, done)
        assert str(link) in done.stderr.replace("\n", ""), name


def test_pipe_in_a_workspace_is_refused(copied: Path, warm_command: Warm) -> None:
    """Reading it would block forever."""
    path = copied / "runs/few/trials/0000/samples.txt"
    path.unlink()
    os.mkfifo(path)

    assert call(warm_command, copied, "sync").returncode == 2


def test_workspace_itself_may_be_a_link(copied: Path, warm_command: Warm) -> None:
    """The user named it, so it may lie on a bigger disk."""
    (copied / "runs").rename(copied / "elsewhere")
    (copied / "runs").symlink_to(copied / "elsewhere")

    assert call(warm_command, copied, "sync").returncode == 0


@pytest.mark.parametrize("place", ["sqlite:///{}/mine.db", "sqlite:///{}/new.db", "file:{}/new"])
def test_stored_database_that_does_not_know_the_study_is_not_opened(
    copied: Path, mine: Path, warm_command: Warm, place: str
) -> None:
    """A database of the user's own stays as it is, and none is created unasked."""
    before = tree(mine)
    for option in ("storage", "tracking_uri"):
        places = dict.fromkeys(("storage", "tracking_uri")) | {option: place.format(mine)}
        change_study(copied, **places)
        for name in ("run", "sync", *(("final-test", "ui") if option == "tracking_uri" else ())):
            done = call(warm_command, copied, name)
            assert done.returncode == (1 if name == "final-test" else 2), (name, done.stderr)
            assert f"--{option.replace('_', '-')}" in done.stderr
    assert tree(mine) == before


@pytest.mark.long
def test_database_that_was_named_once_is_found_again(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """It knows the study, so its URL need not be given again."""
    (tmp_path / "far").mkdir()
    places = {"--storage": "optuna.db", "--tracking-uri": "mlflow.db"}
    named = [word for o, name in places.items() for word in (o, f"sqlite:///{tmp_path}/far/{name}")]
    words = ("--steps", 40, "--workers", 1, "--corpus", small_corpus)

    first = warm_command("run", "-n", 1, *words, *named, folder=tmp_path)
    again = warm_command("run", "--study", "few", "-n", 2, folder=tmp_path)
    filled = warm_command("sync", folder=tmp_path)

    assert [first.returncode, again.returncode, filled.returncode] == [0, 0, 0], again.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {"few", "artifacts"}
    assert not (tmp_path / "runs/optuna.db").exists()


def test_words_of_another_file_are_not_used(copied: Path, mine: Path, warm_command: Warm) -> None:
    """A corpus that does not match the recorded fingerprint is neither used nor shown."""
    words = [f"secret{number}" for number in range(300)]
    (mine / "words.txt").write_text("\n".join(words))
    change_study(copied, corpus=str(mine / "words.txt"))
    before = tree(copied / "runs")

    for name in ("run", "confirm", "final-test", "replay", "losses", "sample"):
        done = call(warm_command, copied, name)
        assert done.returncode == (0 if name == "sample" else 3), (name, done.stderr)
        assert "secret" not in done.stdout + done.stderr
    assert {n: c for n, c in tree(copied / "runs").items() if n in before} == before


def test_fingerprint_is_not_taken_for_a_path(copied: Path, mine: Path, warm_command: Warm) -> None:
    """It becomes the name of a file in the user's own ledger."""
    before = tree(mine)
    for value in ("../../mine/x", "/mine/x", "", "X" * 64, 7):
        change_study(copied, split_fingerprint=value)
        done = call(warm_command, copied, "sync")
        assert done.returncode == 1, value
        assert "study.json" in done.stderr.replace("\n", ""), value
    assert tree(mine) == before


def test_forged_split_of_a_recorded_look_writes_no_file(
    copied: Path, mine: Path, warm_command: Warm
) -> None:
    """The split of a recorded test evaluation becomes the name of a file, too."""
    assert call(warm_command, copied, "final-test").returncode == 0
    split = json.loads((copied / "runs/few/study.json").read_text())["split_fingerprint"]
    replaced = "UPDATE {} SET {} = replace({}, '{}', '{}')"
    column = "value_json"
    execute(
        copied / "runs/optuna.db",
        replaced.format("trial_user_attributes", column, column, split, f"{mine}/look"),
    )
    before = tree(mine)

    done = call(warm_command, copied, "final-test")

    assert done.returncode == 1
    assert "split" in done.stderr
    assert tree(mine) == before
