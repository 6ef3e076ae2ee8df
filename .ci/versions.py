"""Check each installed dependency against pyproject.toml and constraints.txt."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def direct() -> list[Requirement]:
    """Read the dependencies of pyproject.toml, including its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    return [r for r in requirements if r.marker is None or r.marker.evaluate()]


def pins() -> dict[str, Requirement]:
    """Read constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def faults() -> list[str]:
    """Describe each dependency that does not match both files."""
    pinned, problems = pins(), []
    for asked in direct():
        pin = pinned.get(canonicalize_name(asked.name))
        if pin is None:
            problems.append(f"{asked.name} is not in constraints.txt")
            continue
        try:
            installed = version(asked.name)
        except PackageNotFoundError:
            problems.append(f"{asked.name} is not installed")
            continue
        for file, rule in (("pyproject.toml", asked), ("constraints.txt", pin)):
            if not rule.specifier.contains(installed, prereleases=True):
                problems.append(f"{asked.name} {installed} is installed, {file} says {rule}")
    return problems


def main() -> int:
    """Print the problems; exit with 1 if there are any."""
    problems = faults()
    for problem in problems:
        print(f"versions: {problem}")
    if not problems:
        print("versions: every direct dependency matches pyproject.toml and constraints.txt")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
