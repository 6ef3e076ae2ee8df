"""The README's commands install pinned versions, which the declared bounds allow."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = [
    PROJECT["build-system"]["requires"],
    PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"].values(),
]
DIRECT = sorted({line for group in GROUPS for line in group})
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PINS = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LINES}


@pytest.mark.parametrize("line", DIRECT)
def test_pin_is_within_its_bound(line: str) -> None:
    asked = Requirement(line)
    [pin] = PINS[canonicalize_name(asked.name)].specifier
    assert pin.operator == "=="
    assert asked.specifier.contains(Version(pin.version.replace(".*", ".0")))


def test_pins_are_plain_releases() -> None:
    assert len(PINS) == len(LINES)
    assert canonicalize_name("mmsearch") not in PINS
    for line in LINES:
        assert re.fullmatch(r"[\w.-]+==[\w.]+(\.\*)?", line), line
    assert str(PINS[canonicalize_name("torch")].specifier).endswith(".*"), (
        "without it no build with a local part matches"
    )


@pytest.mark.parametrize("name", ["Makefile", "README.md"])
def test_installing_uses_the_pins(name: str) -> None:
    text = (ROOT / name).read_text().replace("$(PIP_INSTALL)", "pip install -c constraints.txt")
    installing = re.findall(r"^.*(?:pip install|-m pip).*--editable.*$", text, re.MULTILINE)
    assert len(installing) == 2
    for line in installing:
        assert "-c constraints.txt" in line
