"""Hold what is installed against pyproject.toml and constraints.txt, dependency by dependency."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def direct() -> list[Requirement]:
    """Read the dependencies of pyproject.toml, those of its extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def pins() -> dict[str, Requirement]:
    """Read constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(each.name): each for each in found}


def faults() -> list[str]:
    """Describe each dependency that does not match both files."""
    pinned, found = pins(), []
    for asked in direct():
        pin = pinned.get(canonicalize_name(asked.name))
        if pin is None:
            found.append(f"{asked.name} is not in constraints.txt")
            continue
        try:
            installed = version(asked.name)
        except PackageNotFoundError:
            found.append(f"{asked.name} is not installed")
            continue
        for file, rule in (("pyproject.toml", asked), ("constraints.txt", pin)):
            if not rule.specifier.contains(installed, prereleases=True):
                found.append(f"{asked.name} {installed} is installed, {file} says {rule}")
    return found


def main() -> int:
    """Print what is wrong, and fail where something is."""
    found = faults()
    for fault in found:
        print(f"versions: {fault}")
    if not found:
        print("versions: every direct dependency is as pyproject.toml and constraints.txt say")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
