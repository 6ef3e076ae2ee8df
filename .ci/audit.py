"""Ask the public vulnerability databases about every installed package.

Exits with 0 if no vulnerability is known, 1 if some are, and 2 if no database could be asked. A
database that does not know a famous vulnerability counts as unreachable, since a mirror may answer
and know nothing.
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
"""An old release with vulnerabilities published in 2018 (CVE-2018-18074)."""


def installed() -> list[str]:
    """List the packages of this environment except ours, without local parts such as `+cpu`."""
    packages = {
        f"{package.name}=={package.version.partition('+')[0]}"
        for package in distributions()
        if package.name != "mmsearch"
    }
    return sorted(packages)


def ask(auditor: str, service: str, packages: list[str]) -> dict[str, list[dict[str, Any]]] | None:
    """Return a database's vulnerabilities by package; None if it cannot be asked."""
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
    """Audit with the first database that answers, and print the result."""
    auditor = sys.argv[1]
    for service in SERVICES:
        if not (ask(auditor, service, [KNOWN]) or {}).get(KNOWN):
            print(f"audit: {service} cannot be reached, or knows no vulnerability of {KNOWN}")
            continue
        packages = installed()
        answers = ask(auditor, service, packages)
        if answers is None:
            print(f"audit: {service} stopped answering")
            continue
        vulnerable = {name: vulns for name, vulns in answers.items() if vulns}
        for name, vulns in vulnerable.items():
            for vuln in vulns:
                fixed = ", ".join(vuln["fix_versions"]) or "no release"
                print(f"audit: {name}: {vuln['id']}, fixed in {fixed}")
        print(
            f"audit: {service} knows {len(answers)} of {len(packages)} packages, "
            f"{len(vulnerable)} of them vulnerable"
        )
        return 1 if vulnerable else 0
    print("audit: NOTHING WAS AUDITED: no vulnerability database could be reached")
    return 2


if __name__ == "__main__":
    sys.exit(main())
