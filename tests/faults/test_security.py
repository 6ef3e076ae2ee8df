"""A whole story leaves no pickle and nothing that others may read; a stranger's runs no code."""

from __future__ import annotations

import ast
import base64
import json
import os
import pickle
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
import torch

from tests.support import plain_settings
from tests.support.fault_injection import STOP_SERVER
from tests.support.pickles import find_pickles, is_pickle

if TYPE_CHECKING:
    from tests.support.forked_cli import Warm

ROOT = Path(__file__).resolve().parents[2]
OPEN = "import os\nos.umask(0)\n"
CONFIG = f"""
[training]
{plain_settings.TRAINING}
steps = 60
segments = 2
[space]
hidden_width = 32
embedding_dim = {{ low = 2, high = 6 }}
block_size = {{ low = 2, high = 5 }}
{plain_settings.SPACE}
[search]
{plain_settings.SEARCH}
sampler = "tpe"
pruner = "none"
"""
STORY = {
    "run": ("run", "--corpus", "few.txt", "--config", "config.toml", "-n", 9, "--workers", 2),
    "confirm": ("confirm", "--top", 1, "--seeds", 1),
    "final-test": ("final-test", "--anyway"),
    "sample": ("sample",),
    "export": ("export", "exported"),
    "sync": ("sync",),
    "ui": ("ui", "--no-browser"),
}
LOADERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
LOADING = {
    "torch.load",
    "torch.save",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "pandas.read_pickle",
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm) -> Path:
    """Live a study from its first trial to its test, as a person who lets everybody read."""
    folder = tmp_path_factory.mktemp("story")
    folder.chmod(0o777)
    shutil.copy(small_corpus, folder / "few.txt")
    (folder / "config.toml").write_text(CONFIG)
    for name, words in STORY.items():
        done = warm_command(
            *words, folder=folder, patch=OPEN + (STOP_SERVER if name == "ui" else "")
        )
        assert name == "ui" or done.returncode == 0, (name, done.stderr)
    return folder


def test_no_pickle_is_stored_anywhere(story: Path) -> None:
    """In no file, artifact or database, whatever it is coded in."""
    assert find_pickles(story) == []


def test_search_for_pickles_finds_them(tmp_path: Path) -> None:
    """A database's texts, a torch file and coded texts are all found; words and weights not."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/theirs.db")
    # As Optuna's CMA-ES keeps its state.
    study.ask().set_user_attr("cma:optimizer:0", pickle.dumps({"mean": [0.5, 0.5]}).hex())
    torch.save({"w": torch.zeros(3)}, tmp_path / "torch.pt")
    program = pickle.dumps({"a": [1, 2, 3]}, protocol=0)
    (tmp_path / "coded.json").write_text(json.dumps([{"x": base64.b64encode(program).decode()}]))

    found = find_pickles(tmp_path)

    assert {where.split("!")[0].split(":")[0].split(" ")[0] for where in found} == {
        "theirs.db",
        "torch.pt",
        "coded.json",
    }
    assert all(is_pickle(pickle.dumps(("a", 1), protocol=protocol)) for protocol in range(6))
    assert not any(map(is_pickle, (b"emma\nolivia\nava\n", b"NNNNNNNNN", b"\x80 is a byte.", b"")))


def test_source_names_nothing_that_unpickles() -> None:
    """No module that pickles is imported, and no function is called that may.

    `multiprocessing` pickles through its pipes, between a coordinator and the workers that it has
    started itself; nothing else can write to them.
    """
    paths = [
        path
        for room in ("data", "model", "tracking", "search")
        for path in (ROOT / room).rglob("*.py")
    ]
    assert len(paths) > 50
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not _imported(node) & LOADERS, (path, ast.unparse(node))
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) in LOADING), path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
    return set()


def test_workspace_is_private_whatever_the_umask(story: Path) -> None:
    """Databases, artifacts, locks and logs too: nobody else may read words, weights or results."""
    paths = [story / "runs", *(story / "runs").rglob("*")]
    names = {path.name for path in paths}
    assert {"optuna.db", "mlflow.db", "optuna.db-lock", "lock", "loss.png", "MLmodel"} <= names
    assert any(name.startswith("mlflow-server-") for name in names)
    for path in paths:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_database_is_private_while_it_is_used(story: Path, tmp_path: Path) -> None:
    """The write-ahead log has the database's own mode."""
    shutil.copytree(story / "runs", tmp_path / "runs")
    before = os.umask(0)
    try:
        with sqlite3.connect(tmp_path / "runs/optuna.db") as database:
            database.execute("CREATE TABLE here (x)")
            modes = {
                p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob("runs/optuna.db*")
            }
    finally:
        os.umask(before)
    database.close()
    assert modes["optuna.db-wal"] == modes["optuna.db-shm"] == 0o600


def test_export_is_as_readable_as_its_user_says(story: Path) -> None:
    """It is made to be handed on: its files are as any other command of that person makes them."""
    assert stat.S_IMODE((story / "exported").stat().st_mode) == 0o777
    assert {stat.S_IMODE(path.stat().st_mode) for path in (story / "exported").iterdir()} == {0o666}
