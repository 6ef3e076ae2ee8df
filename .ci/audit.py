"""Ask the public databases of vulnerabilities about every package that is installed here.

Exits with 0 where none is known, 1 where some are, and 2 where no database could be asked: one that
does not know what everybody knows of an old release counts as silent, since a mirror may answer
politely and know nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
KNOWN = "requests==2.19.0"
"""Its vulnerabilities have been published since 2018 (CVE-2018-18074)."""


def installed() -> list[str]:
    """Name the packages of this environment, but for ours; without local parts, such as `+cpu`."""
    found = {
        f"{each.name}=={each.version.partition('+')[0]}"
        for each in distributions()
        if each.name != "mmsearch"
    }
    return sorted(found)


def ask(auditor: str, service: str, packages: list[str]) -> dict[str, list[dict[str, Any]]] | None:
    """Give what a database knows of each package; None where it cannot be asked."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text("\n".join(packages) + "\n")
        options = ["--vulnerability-service", service, "--requirement", str(pins), "--no-deps"]
        options += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(
            [auditor, *options],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return {f"{a['name']}=={a['version']}": a["vulns"] for a in answers if "vulns" in a}


def main() -> int:
    """Audit, and say in words what came of it."""
    auditor = sys.argv[1]
    for service in SERVICES:
        if not (ask(auditor, service, [KNOWN]) or {}).get(KNOWN):
            print(f"audit: {service} cannot be reached, or knows nothing of {KNOWN}")
            continue
        packages = installed()
        answers = ask(auditor, service, packages)
        if answers is None:
            print(f"audit: {service} stopped answering")
            continue
        found = {name: vulns for name, vulns in answers.items() if vulns}
        for name, vulns in found.items():
            for vuln in vulns:
                fixed = ", ".join(vuln["fix_versions"]) or "no release"
                print(f"audit: {name}: {vuln['id']}, fixed in {fixed}")
        print(
            f"audit: {service} knows {len(answers)} of {len(packages)} packages, {len(found)} bad"
        )
        return 1 if found else 0
    print("audit: NOTHING WAS AUDITED: no database of vulnerabilities could be asked from here")
    return 2


if __name__ == "__main__":
    sys.exit(main())
