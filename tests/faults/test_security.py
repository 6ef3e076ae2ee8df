"""A study leaves no pickle and nothing that others may read; the source cannot unpickle."""

import ast
import base64
import json
import os
import pickle
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch

from tests.support import plain_settings
from tests.support.fault_injection import STOP_SERVER
from tests.support.forked_cli import Warm
from tests.support.pickles import find_pickles, is_pickle

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
STORY: tuple[tuple[object, ...], ...] = (
    ("run", "--corpus", "few.txt", "--config", "config.toml", "-n", 4, "--workers", 1),
    ("confirm", "--top", 1, "--seeds", 1),
    ("final-test", "--anyway"),
    ("export", "exported"),
    ("sync",),
    ("ui", "--no-browser"),
)
LOADERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
LOADING = {
    *(
        "joblib.load",
        "joblib.dump",
        "torch.load",
        "torch.save",
        "np.load",
        "numpy.load",
        "pd.read_pickle",
        "pandas.read_pickle",
    ),
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm) -> Path:
    """Take a study from its first trial to its test, under a umask that hides nothing."""
    folder = tmp_path_factory.mktemp("story")
    folder.chmod(0o777)
    shutil.copy(small_corpus, folder / "few.txt")
    (folder / "config.toml").write_text(CONFIG)
    for words in STORY:
        is_ui = words[0] == "ui"
        done = warm_command(*words, folder=folder, patch=OPEN + (STOP_SERVER if is_ui else ""))
        assert is_ui or done.returncode == 0, (words, done.stderr)
    return folder


def test_no_pickle_is_stored_anywhere(story: Path) -> None:
    """No file, artifact or database contains one, in any encoding."""
    assert find_pickles(story) == []


def test_search_for_pickles_finds_them(tmp_path: Path) -> None:
    """It finds them in a database, a torch file and encoded text; words are not taken for one."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/theirs.db")
    # As Optuna's CMA-ES keeps its state.
    study.ask().set_user_attr("cma:optimizer:0", pickle.dumps({"mean": [0.5, 0.5]}).hex())
    torch.save({"w": torch.zeros(3)}, tmp_path / "torch.pt")
    program = pickle.dumps({"a": [1, 2, 3]}, protocol=0)
    (tmp_path / "coded.json").write_text(json.dumps([{"x": base64.b64encode(program).decode()}]))

    found = " ".join(find_pickles(tmp_path))

    assert all(name in found for name in ("theirs.db", "torch.pt", "coded.json"))
    assert all(is_pickle(pickle.dumps(("a", 1), protocol=protocol)) for protocol in range(6))
    assert not any(map(is_pickle, (b"emma\nolivia\nava\n", b"NNNNNNNNN", b"\x80 is a byte.", b"")))


def test_source_imports_and_calls_nothing_that_unpickles() -> None:
    """`multiprocessing` alone pickles, in pipes to the workers that a coordinator has started."""
    rooms = ("data", "model", "tracking", "search")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert len(paths) > 50
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not _imported(node) & (LOADERS | LOADING), (path, ast.unparse(node))
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) in LOADING), path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        if node.module == "joblib":  # only its loader unpickles
            return {"joblib.load" for alias in node.names if alias.name != "cpu_count"}
        return {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
    return set()


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_workspace_is_private_whatever_the_umask(story: Path) -> None:
    """Words, weights, results, databases, locks and logs are readable by their owner alone."""
    paths = [story / "runs", *(story / "runs").rglob("*")]
    names = {path.name for path in paths}
    assert {"optuna.db", "mlflow.db", "optuna.db-lock", "lock", "loss.png", "MLmodel"} <= names
    assert any(name.startswith("mlflow-server-") for name in names)
    for path in paths:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_database_is_private_while_it_is_used(story: Path, tmp_path: Path) -> None:
    """The write-ahead log has the database's own permissions."""
    database = shutil.copy(story / "runs/optuna.db", tmp_path)
    before = os.umask(0)
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
            assert {mode(path) for path in tmp_path.glob("optuna.db-*")} == {0o600}
    finally:
        os.umask(before)


def test_export_has_the_permissions_of_the_users_umask(story: Path) -> None:
    """It is made to be handed on."""
    assert mode(story / "exported") == 0o777
    assert {mode(path) for path in (story / "exported").iterdir()} == {0o666}
