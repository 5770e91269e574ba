"""Ports: free, unique while claimed, and outside the ephemeral range."""

from __future__ import annotations

import random
import socket
import subprocess
import sys

import pytest

from devstack.supervision import ports


def test_a_claimed_port_is_not_given_out_again_until_released(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ports.free_port(), ports.free_port()
    ports.release(second)
    monkeypatch.setattr(random, "sample", lambda *_: [first, second])
    try:
        assert ports.free_port() == second
        with pytest.raises(OSError, match="no free port"):
            ports.free_port()
        ports.release(first)
        assert ports.free_port() == first
    finally:
        ports.release(first, second)


def test_a_port_claimed_by_another_process_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from devstack.supervision import ports; print(ports.free_port(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        taken = int(other.stdout.readline())
        monkeypatch.setattr(random, "sample", lambda *_: [taken])
        with pytest.raises(OSError, match="no free port"):
            ports.free_port()
        other.communicate(b"\n")
    assert ports.free_port() == taken
    ports.release(taken)


def test_a_port_that_somebody_listens_on_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(random, "sample", lambda *_: [server.getsockname()[1]])
        with pytest.raises(OSError, match="no free port"):
            ports.free_port()


def test_a_claimed_port_can_be_listened_on() -> None:
    port = ports.free_port()
    try:
        socket.create_server(("127.0.0.1", port)).close()
    finally:
        ports.release(port)


def test_a_given_port_is_claimed_once_and_only_without_a_listener() -> None:
    port = ports.free_port()
    with pytest.raises(OSError, match="in use"):
        ports.claim(port)
    ports.release(port)
    ports.claim(port)
    ports.release(port)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
        ports.claim(port)
    ports.claim(port)
    ports.release(port)


def test_ports_lie_below_those_that_clients_are_given() -> None:
    port = ports.free_port()
    ports.release(port)
    assert 20_000 <= port < 32_768
