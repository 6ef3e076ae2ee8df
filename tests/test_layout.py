"""The shape of the repository: the rooms, and what must never be among them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mmsearch

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "model", "search", "tracking")


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_linked_into_the_import_root(room: str) -> None:
    """One file has one name: `mmsearch.data` is the folder `data` at the top."""
    link = ROOT / "mmsearch" / room
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / room


def test_tests_import_this_checkout() -> None:
    """What is tested is what stands here, and not another installation."""
    assert mmsearch.__file__ is not None
    assert Path(mmsearch.__file__).resolve() == ROOT / "mmsearch/__init__.py"


@pytest.mark.parametrize("room", ROOMS)
def test_room_lists_its_modules(room: str) -> None:
    """A room's docstring says what it is for and names each of its modules."""
    text = (ROOT / room / "__init__.py").read_text()
    for path in (ROOT / room).glob("[a-z]*.py"):
        assert f"`{path.stem}`" in text or f".{path.stem}`" in text or path.name in text, path


def test_readme_commands_exist() -> None:
    """The README's two commands are targets of the Makefile, and CI calls the check."""
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    for target in ("run", "test"):
        assert f"\n{target}:" in makefile
        assert f"\nmake {target}" in readme
    assert "check" in (ROOT / ".ci/run").read_text()


def test_page_on_reliability_names_tests_that_there_are() -> None:
    """Each promise is shown by the test that it names."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    there = {name for source in sources.values() for name in re.findall(r"def test_(\w+)", source)}
    named = set(re.findall(r"::(\w+)", page))
    files = set(re.findall(r"(?:search|tracking)/test_\w+\.py", page))
    assert len(named) > 30
    assert named <= there
    assert files <= {path.relative_to(ROOT / "tests").as_posix() for path in sources}
