"""The shape of the repository: the rooms, their layers, and what the README and the docs name."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mmsearch
from tests.support import fault_injection

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "model", "search", "tracking")
WRONG_IMPORTS = {
    "The rooms import downwards only": ("data/planted_room.py", "mmsearch.tracking"),
    "The folders of search import downwards only": (
        "search/study/planted_folder.py",
        "mmsearch.search.cli",
    ),
    "tracking knows neither data nor torch": ("tracking/journal/planted_torch.py", "torch"),
    "MLflow and matplotlib are imported in tracking only": (
        "search/results/planted_mlflow.py",
        "mlflow",
    ),
    "Optuna is imported in search.optimizer only": ("tracking/planted_optuna.py", "optuna"),
    "Dask is imported in search.execution only": ("search/results/planted_dask.py", "dask"),
    "typer and rich are imported in search.cli and search.display only": (
        "search/execution/planted_rich.py",
        "rich",
    ),
}
"""A module that breaks each import contract of pyproject.toml, and what the module imports."""


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_linked_into_the_import_root(room: str) -> None:
    link = ROOT / "mmsearch" / room
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / room


def test_tests_import_this_checkout() -> None:
    assert mmsearch.__file__ is not None
    assert Path(mmsearch.__file__).resolve() == ROOT / "mmsearch/__init__.py"


def test_each_import_contract_notices_a_wrong_import(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {contract["name"] for contract in project["tool"]["importlinter"]["contracts"]}
    assert contracts == WRONG_IMPORTS.keys()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in (*ROOMS, "mmsearch"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True)
    for path, name in WRONG_IMPORTS.values():
        (tmp_path / path).write_text(f"import {name}\n")

    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    report = " ".join(done.stdout.split())
    assert done.returncode == 1
    for contract, (path, name) in WRONG_IMPORTS.items():
        assert f"{contract} BROKEN" in report
        importer = f"mmsearch.{path.removesuffix('.py').replace('/', '.')}"
        assert re.search(rf"{re.escape(importer)} -> {re.escape(name)}\b", report), report


def test_fault_points_name_functions_that_exist() -> None:
    targets = [value for value in vars(fault_injection).values() if isinstance(value, str)]
    targets = [target for target in targets if re.fullmatch(r"mmsearch[\w.]+:[\w.]+", target)]
    assert len(targets) > 10
    for target in targets:
        module, _, path = target.partition(":")
        owner: object = importlib.import_module(module)
        for name in path.split("."):
            owner = getattr(owner, name)


def test_tests_that_the_docs_name_exist() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    paths = re.findall(r"\b(?:faults|search|tracking)/[\w/]*test_\w+\.py", page)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / "tests" / path).is_file()] == []
