"""The check whether a broker serves, against fake sockets."""

from __future__ import annotations

import socket

import pytest

from devstack.errors import BadAddress
from devstack.kafka.probe import addresses, answers
from tests.unit.devstack.fakes import broker


def test_a_broker_that_reports_a_live_broker_serves() -> None:
    with broker(brokers=1) as address:
        assert answers(address)
        assert answers(f"127.0.0.1:1,{address}")


def test_a_broker_without_metadata_does_not_serve() -> None:
    with broker(brokers=0) as address:
        assert not answers(address)


def test_an_open_port_is_not_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


def test_a_closed_port_does_not_serve() -> None:
    assert not answers("127.0.0.1:1")


@pytest.mark.parametrize("kafka", ["", "localhost", "localhost:", ":9092", "a:b", "a:1,,b:2"])
def test_an_invalid_list_of_addresses_is_refused(kafka: str) -> None:
    with pytest.raises(BadAddress, match="must be host:port"):
        addresses(kafka)


def test_addresses_are_pairs() -> None:
    assert addresses("a:1, [::1]:2") == [("a", 1), ("::1", 2)]
