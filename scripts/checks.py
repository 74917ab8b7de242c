"""Runs every check of the project, prints the time of each, and lists at the end which ones failed.

Usage: scripts/test [--fast | --faults] [pytest's arguments]

--fast skips the slow tests; --faults also runs, at the end, the tests that break processes, servers and disks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

# Most tests wait for other processes, so running two at a time halves the time even on two cores.
_PYTEST = ["pytest", "--numprocesses", "2", "--dist", "loadgroup"]


def main(arguments: list[str]) -> int:
    """Run the checks; pytest comes last, so that its summary is the last line if all checks pass."""
    selected = [argument for argument in arguments if argument not in {"--fast", "--faults"}]
    quick = ["-m", "not slow and not faults"] if "--fast" in arguments else []
    steps = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "import contracts": ["lint-imports"],
        "pytest": [*_PYTEST, *quick, *selected],
    }
    if "--faults" in arguments:  # in their own order, in which those that measure come last, one at a time
        steps["pytest, faults"] = [*_PYTEST, "--no-loadscope-reorder", "-m", "faults", *selected]
    failed = [name for name, command in steps.items() if not _passes(name, command)]
    if failed:
        print(f"\nFAILED: {', '.join(failed)}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _passes(name: str, command: list[str]) -> bool:
    print(f"== {name}", flush=True)
    began = time.monotonic()
    tool, *rest = command
    code = subprocess.run([str(BIN / tool), *rest], cwd=ROOT, env=_environment(), check=False).returncode
    if tool != "pytest":  # pytest prints its own time
        print(f"   {'ok' if code == 0 else 'failed'} in {time.monotonic() - began:.1f} s\n", flush=True)
    return code == 0


def _environment() -> dict[str, str]:
    # The tools must find each other and the project's commands in the environment under test.
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
