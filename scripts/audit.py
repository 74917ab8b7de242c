"""Looks up every pinned package in databases of known vulnerabilities, with pip-audit in a separate environment.

Usage: scripts/audit [--required]

If no database can be reached, nothing is audited and the script says so; that is a failure only with --required.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-audit"
PIP_AUDIT = "pip-audit==2.10.1"
SERVICES = ("pypi", "osv")


def main(arguments: list[str]) -> int:
    """Audit, and print the results."""
    if arguments not in ([], ["--required"]):
        print(__doc__, file=sys.stderr)
        return 2
    if not (ENVIRONMENT / "bin" / "pip-audit").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", PIP_AUDIT]
        if subprocess.run(install, check=False).returncode:
            print("NOTHING WAS AUDITED: pip-audit cannot be installed from here", file=sys.stderr)
            return 1 if arguments else 0
    for service in SERVICES:
        looked_up, holes = _audit(service)
        if looked_up:
            for hole in holes:
                print(hole)
            print(f"{looked_up} packages were looked up in {service}: {len(holes)} known vulnerabilities")
            return 1 if holes else 0
    print("NOTHING WAS AUDITED: no database of vulnerabilities can be reached from here", file=sys.stderr)
    return 1 if arguments else 0


def _audit(service: str) -> tuple[int, list[str]]:
    """The number of packages that a database knows, and their known vulnerabilities."""
    command = [str(ENVIRONMENT / "bin" / "pip-audit"), "--requirement", str(ROOT / "constraints.txt"), "--no-deps"]
    command += ["--disable-pip", "--progress-spinner", "off", "--format", "json", "--vulnerability-service", service]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return 0, []  # pip-audit signals an outage only by the lack of a report
    known = [package for package in packages if "skip_reason" not in package]
    return len(known), [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'nothing'}"
        for package in known
        for hole in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
