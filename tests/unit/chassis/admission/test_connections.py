"""The sweep of a server's connections: when it counts the server's calls."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from chassis.admission import connections
from chassis.admission.closed_peers import ClosedPeers
from chassis.admission.connections import INTERVAL, READING_S, Connections


class Channelz:
    """Counts how often the calls of a server were counted."""

    def __init__(self) -> None:
        self.reads = 0

    def GetServer(self, request: Any, context: Any) -> Any:
        self.reads += 1
        return SimpleNamespace(server=SimpleNamespace(data=SimpleNamespace(calls_started=0, calls_succeeded=0)))


@pytest.fixture
def channelz(monkeypatch: pytest.MonkeyPatch) -> Channelz:
    made = Channelz()
    monkeypatch.setattr(connections, "ChannelzServicer", made)
    return made


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1_000))


def test_the_calls_are_counted_once_an_interval_while_the_other_threads_are_idle(channelz: Channelz) -> None:
    found = Connections(1, ClosedPeers())
    found.sweep()
    channelz.reads = 0
    for _ in range(2 * INTERVAL):
        found.sweep()
    assert channelz.reads == 2


def test_the_calls_are_counted_at_every_sweep_while_other_threads_are_busy(channelz: Channelz) -> None:
    found = Connections(1, ClosedPeers())
    found.sweep()
    channelz.reads = 0
    for _ in range(INTERVAL - 2):
        thread = threading.Thread(target=work, args=(2 * READING_S,))
        thread.start()
        thread.join(30)
        found.sweep()
    assert channelz.reads == INTERVAL - 2


def test_work_on_the_loops_own_thread_is_none_of_other_threads(channelz: Channelz) -> None:
    found = Connections(1, ClosedPeers())
    found.sweep()
    channelz.reads = 0
    work(2 * READING_S)
    found.sweep()
    assert channelz.reads == 0


def test_the_calls_of_an_unknown_server_are_not_counted(channelz: Channelz) -> None:
    found = Connections(0, ClosedPeers())
    for _ in range(INTERVAL):
        found.sweep()
    assert channelz.reads == 0
