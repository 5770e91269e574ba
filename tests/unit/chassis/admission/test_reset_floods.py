"""A connection whose calls arrive dead is found at once, and no other one."""

from __future__ import annotations

import pytest

from chassis.admission.closed_peers import REMEMBER_S, ClosedPeers, peer_of
from chassis.admission.reset_floods import MAX_DEAD, ResetFloods

FLOOD, OTHER = "ipv4:10.0.0.1:5000", "ipv4:10.0.0.2:5000"


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def found() -> list[str]:
    return []


@pytest.fixture
def floods(found: list[str]) -> ResetFloods:
    made = ResetFloods()
    made.on_flood = found.append
    return made


def dead(floods: ResetFloods, peer: str, count: int) -> None:
    for _ in range(count):
        floods.dead(peer)


def test_a_connection_whose_calls_arrive_dead_floods_once(floods: ResetFloods, found: list[str]) -> None:
    dead(floods, OTHER, MAX_DEAD - 1)
    dead(floods, FLOOD, MAX_DEAD - 1)
    assert found == []
    dead(floods, FLOOD, 100)
    assert found == [FLOOD]


def test_a_connection_with_answered_calls_is_no_flood(floods: ResetFloods, found: list[str]) -> None:
    dead(floods, OTHER, 1)
    for _ in range(MAX_DEAD // 9 + 1):
        floods.answered(OTHER)
    dead(floods, OTHER, MAX_DEAD)
    assert found == []


def test_a_window_forgets(floods: ResetFloods, found: list[str]) -> None:
    assert not floods
    for _ in range(5):
        dead(floods, OTHER, MAX_DEAD - 1)
        assert floods
        floods.next_window()
        assert not floods
    assert found == []


def test_closed_peers_are_remembered_for_a_while() -> None:
    clock = Clock()
    closed = ClosedPeers(clock)
    assert not closed
    closed.add(peer_of(FLOOD))
    clock.now += REMEMBER_S / 2
    closed.add(peer_of(OTHER))
    assert closed and closed.has(FLOOD) and closed.has(OTHER) and not closed.has("ipv4:10.0.0.1:5001")
    clock.now += REMEMBER_S * 0.6
    assert closed and not closed.has(FLOOD) and closed.has(OTHER)
    clock.now += REMEMBER_S
    assert not closed


def test_peer_names_of_grpc_are_parsed() -> None:
    names = {
        "ipv4:127.0.0.1:5000": ("127.0.0.1", 5000),
        "ipv6:%5B::1%5D:5000": ("::1", 5000),
        "ipv6:[::ffff:10.0.0.1]:7": ("10.0.0.1", 7),
        "unix:": ("", 0),
    }
    assert {name: peer_of(name) for name in names} == names
