"""Which addresses are blocked, for how long, and what the kernel does about it."""

from __future__ import annotations

import socket
import sys

import pytest

from chassis.admission.address_block import BLOCK_S, MAX_BLOCKED, REPEAT_S, AddressBlock, drop_filter

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has socket filters")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_second_connection_within_the_time_blocks_its_address() -> None:
    clock = Clock()
    block = AddressBlock(clock)
    assert not block.report("10.0.0.1")
    assert block.blocked == []
    clock.now += REPEAT_S - 1
    assert block.report("10.0.0.1")
    assert block.blocked == ["10.0.0.1"]


def test_a_connection_long_after_the_first_does_not_block() -> None:
    clock = Clock()
    block = AddressBlock(clock)
    block.report("10.0.0.1")
    clock.now += REPEAT_S
    assert not block.report("10.0.0.1")
    assert block.blocked == []


def test_a_block_ends_and_a_further_connection_extends_it() -> None:
    clock = Clock()
    block = AddressBlock(clock)
    block.report("10.0.0.1")
    block.report("10.0.0.1")
    clock.now += BLOCK_S - 1
    assert not block.report("10.0.0.1"), "it was blocked already"
    clock.now += 1
    assert not block.expire()
    clock.now += BLOCK_S - 1
    assert block.expire()
    assert block.blocked == []
    assert not block.expire()


def test_the_number_of_blocked_addresses_is_limited() -> None:
    block = AddressBlock(Clock())
    for number in range(MAX_BLOCKED + 1):
        block.report(f"10.0.0.{number}")
        block.report(f"10.0.0.{number}")
    assert len(block.blocked) == MAX_BLOCKED


def test_the_filter_has_room_for_all_addresses() -> None:
    assert len(drop_filter([f"2001:db8::{number:x}" for number in range(MAX_BLOCKED)])) <= 4_096


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        drop_filter(["nowhere"])


def connects(listener: socket.socket, source: str) -> bool:
    with socket.socket(listener.family) as peer:
        peer.settimeout(0.2)
        peer.bind((source, 0))
        try:
            peer.connect(listener.getsockname()[:2])
        except TimeoutError:
            return False
        return True


@linux_only
def test_the_kernel_refuses_blocked_addresses_and_no_others() -> None:
    clock = Clock()
    block = AddressBlock(clock)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        for one in ("127.0.0.3", "::1", "127.0.0.5"):
            block.report(one)
            block.report(one)
        block.apply(listener)
        assert [connects(listener, one) for one in ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")] == [
            True,
            False,
            True,
            False,
        ]
        clock.now += BLOCK_S
        assert block.expire()
        block.apply(listener)
        assert connects(listener, "127.0.0.3")


@linux_only
def test_the_kernel_refuses_a_blocked_address_of_ip_version_6() -> None:
    block = AddressBlock(Clock())
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert connects(listener, "::1")
        block.report("::1")
        block.report("::1")
        block.apply(listener)
        assert not connects(listener, "::1")
