from __future__ import annotations

import socket

import pytest

from service.address import ListenFailed, listen, url_of


def test_port_zero_takes_a_free_port_and_the_url_names_it() -> None:
    with listen("127.0.0.1", 0) as server:
        assert url_of(server) == f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_address_for_everybody_is_reached_here_by_loopback() -> None:
    with listen("0.0.0.0", 0) as server:
        assert url_of(server) == f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_name_that_means_nothing_is_refused() -> None:
    with pytest.raises(ListenFailed, match=r"cannot listen on nowhere\.invalid port 8000"):
        listen("nowhere.invalid", 8000)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenFailed, match="Address already in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_port_that_nobody_asked_for_gives_way_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port, or_any=True) as server:
            assert server.getsockname()[1] not in {0, port}


def test_an_address_of_another_machine_is_refused_whatever_the_port() -> None:
    with pytest.raises(ListenFailed, match=r"cannot listen on 192\.0\.2\.1 port 8000"):
        listen("192.0.2.1", 8000, or_any=True)
