"""The address that the embedded service listens on: the open socket, and its URL."""

from __future__ import annotations

import errno
import ipaddress
import socket

from intff.errors import IntffError


class ListenFailed(IntffError):
    """The address is in use, or does not belong to this machine."""

    code = "address_in_use"


def listen(host: str, port: int, *, or_any: bool = False) -> socket.socket:
    """Open the listening socket, which the API's process inherits.

    The supervisor holds it, so that a port in use is noticed before anything starts, and requests
    wait instead of failing while the API restarts.

    Args:
        host: a name or an address of this machine.
        port: 0 picks a free one.
        or_any: fall back to a free port if this one is in use.

    Raises:
        ListenFailed: the port is in use, or the address does not belong to this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        server = socket.create_server(place[:2], family=family, backlog=2048)
    except OSError as error:
        if or_any and error.errno == errno.EADDRINUSE:
            return listen(host, 0)
        message = f"cannot listen on {host or '*'} port {port}: {error.strerror}; choose another --port or --host"
        raise ListenFailed(message) from error
    # An inherited socket is not recognised as TCP by the server's event loop, which then leaves Nagle's
    # algorithm on; with it every answer waits 40 ms for the client's delayed acknowledgement.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def url_of(server: socket.socket) -> str:
    """The URL at which programs on this machine reach the listening socket."""
    host, port = server.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if server.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
