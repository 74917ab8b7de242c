"""Creates `.venv` and installs the project into it with pinned versions, once; needs only the standard library.

Usage: python scripts/environment.py EXTRAS
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
PINS = ROOT / "constraints.txt"
BUILD = ("pip", "setuptools")
"""Build tools of the project, installed first and pinned like the rest, so that build isolation is not needed."""

_CONTAINED_IN = {"all": ("all", "dev"), "dev": ("dev",)}
_TAIL_LINES = 25


def main(arguments: list[str]) -> int:
    """Prepare the environment with the extras named on the command line."""
    if len(arguments) != 1 or arguments[0] not in _CONTAINED_IN:
        print(__doc__, file=sys.stderr)
        return 2
    extras = arguments[0]
    with _one_at_a_time():
        before = _stamp()
        if before.get("fingerprint") == _fingerprint() and before.get("extras") in _CONTAINED_IN[extras]:
            return 0
        # An environment with the test dependencies keeps them, whichever extras are requested.
        extras = "dev" if before.get("extras") == "dev" else extras
        return 0 if _prepare(extras) else 1


def _prepare(extras: str) -> bool:
    began = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not _works([str(PYTHON), "-m", "pip", "--version"]) and not _make():
        return False
    pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-c", str(PINS)]
    if not _logged("Installing pip and setuptools", [*pip, *BUILD]):
        return False
    project = ["--no-build-isolation", "-e", f".[{extras}]"]
    if not _logged("Installing the pinned packages (takes minutes the first time)", [*pip, *project]):
        return False
    STAMP.write_text(json.dumps({"fingerprint": _fingerprint(), "extras": extras}), encoding="utf-8")
    _say(f"The environment in {VENV.relative_to(ROOT)} is ready ({time.monotonic() - began:.0f} s).")
    return True


def _make() -> bool:
    """Create the virtual environment, with the host's pip if the host lacks ensurepip (as on Debian)."""
    base = str(getattr(sys, "_base_executable", sys.executable))  # `sys.executable` may be the one to replace
    if importlib.util.find_spec("ensurepip") is not None:
        return _logged("Creating the virtual environment .venv", [base, "-m", "venv", "--clear", str(VENV)])
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("venv") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        _say(
            f"{base} cannot create a virtual environment: it lacks ensurepip, and pip or venv. "
            f"On Debian or Ubuntu: apt install python{version}-venv"
        )
        return False
    made = _logged(
        "Creating the virtual environment .venv", [base, "-m", "venv", "--clear", "--without-pip", str(VENV)]
    )
    return made and _logged(
        "Installing pip into it", [base, "-m", "pip", "--python", str(PYTHON), "install", "-c", str(PINS), "pip"]
    )


def _fingerprint() -> str:
    """A hash of what determines the installed packages: their declaration, their pins, and the environment's Python."""
    digest = hashlib.sha256()
    for file in (ROOT / "pyproject.toml", PINS, VENV / "pyvenv.cfg"):
        digest.update(file.read_bytes() if file.exists() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def _stamp() -> dict[str, str]:
    """The stamp of the last complete installation; empty if there is none."""
    if not PYTHON.exists():
        return {}
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _logged(what: str, command: list[str]) -> bool:
    """Run a command with its output in a log file; print progress to standard error, and on failure the log's end."""
    with tempfile.NamedTemporaryFile("w+", prefix="intff-install-", suffix=".log", delete=False) as log:
        # PIP_USER would install outside the environment.
        environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
        try:
            _follow(what, process, log)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode == 0:
            Path(log.name).unlink()
            return True
        log.seek(0)
        tail = log.read().splitlines()[-_TAIL_LINES:]
    _say("\n".join(["", *tail, f"{what}: failed; the complete log is {log.name}"]))
    return False


def _follow(what: str, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    """Wait for the process to end; on a terminal, keep showing the seconds and the last line of its output."""
    began = time.monotonic()
    if not sys.stderr.isatty():
        _say(f"{what} ...")
        process.wait()
        return
    while process.poll() is None:
        lines = Path(log.name).read_text(encoding="utf-8", errors="replace").splitlines()
        now = lines[-1].strip() if lines else ""
        line = f"{what} ... {time.monotonic() - began:.0f} s  {now}"[: os.get_terminal_size(2).columns - 1]
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        time.sleep(0.2)
    print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Prevent two processes from preparing the environment at once; a lock ends with its process."""
    with Path(__file__).open(encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another process that is preparing .venv ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
