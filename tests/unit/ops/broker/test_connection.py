"""A broker that is silent, unreachable, or asks for TLS ends a command in time, with a sentence and exit code 2."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from devstack.certificates.ca import Authority
from ops.broker import connection
from ops.broker.connection import at_broker
from ops.errors import CANNOT_RUN, OpsError
from ops.log.reader import Reader
from ops.main import main

DEADLINE_S = 0.4

Serve = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GROUPBUY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GROUPBUY_OPS_TIMEOUT_SECONDS", f"{DEADLINE_S}")


@contextmanager
def listener(serve: Serve) -> Iterator[str]:
    """The address of a listener that gives each connection to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stopped = threading.Event()

        def accept() -> None:
            while not stopped.is_set():
                with suppress(OSError):
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            stopped.set()
            with suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
            thread.join(5)


def silent(peer: socket.socket) -> None:
    with peer, suppress(OSError):
        while peer.recv(4096):
            pass


def broker(peer: socket.socket) -> None:
    """Answers ApiVersions requests, as a broker does before it asks for credentials."""
    with peer, suppress(OSError):
        while request := peer.recv(4096):
            (correlation,) = struct.unpack(">i", request[8:12])
            peer.sendall(struct.pack(">iihi", 10, correlation, 0, 0))


def refusal(kafka: str, **options: bool) -> tuple[str, float]:
    """The sentence of a command that needs the broker, and the seconds that it took."""
    began = time.monotonic()
    with pytest.raises(OpsError) as caught:
        at_broker(kafka, lambda: asyncio.sleep(60), **options)
    assert caught.value.exit_code == CANNOT_RUN
    return str(caught.value), time.monotonic() - began


def test_a_broker_that_answers_runs_the_command() -> None:
    with listener(broker) as kafka, listener(silent) as other:
        assert at_broker(kafka, lambda: asyncio.sleep(0, "done")) == "done"
        assert at_broker(f"{other},{kafka}", lambda: asyncio.sleep(0, "done")) == "done"


def test_a_silent_broker_ends_the_command_at_its_deadline() -> None:
    with listener(silent) as kafka:
        sentence, seconds = refusal(kafka)
    assert sentence == f"the broker at {kafka} does not answer within {DEADLINE_S:g} s"
    assert seconds < 10 * DEADLINE_S


def test_every_command_that_needs_the_broker_has_the_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    group = "groups/5d7c9f3e-0000-4000-8000-000000000001"
    commands = [
        ["topics", "check"],
        ["acls", "check"],
        ["tail", "groups.group.v1"],
        ["show", "group", group],
        ["invites", group],
        ["dlq", "list"],
        ["offsets", "recover"],
        ["verify"],
        ["audit", "--without-provider"],
        ["ledger", "balances"],
        ["replay"],
        ["what-if"],
    ]
    with listener(silent) as kafka:
        for command in commands:
            assert main([*command, "--json", "--kafka", kafka]) == CANNOT_RUN, command
            printed = capsys.readouterr()
            assert printed.out == ""
            assert "does not answer within 0.4 s" in printed.err


def test_a_broker_that_falls_silent_ends_a_running_command() -> None:
    answered = 0

    def once(peer: socket.socket) -> None:
        nonlocal answered
        answered += 1
        (broker if answered == 1 else silent)(peer)

    with listener(once) as kafka:
        sentence, seconds = refusal(kafka)
        assert answered == 1 + connection._MAX_UNANSWERED
    assert "stopped answering" in sentence
    assert seconds < 20 * DEADLINE_S


def test_one_missed_probe_does_not_end_a_command() -> None:
    answered = 0
    enough = threading.Event()

    def second_is_silent(peer: socket.socket) -> None:
        nonlocal answered
        answered += 1
        if answered == 4:
            enough.set()
        (silent if answered == 2 else broker)(peer)

    with listener(second_is_silent) as kafka:
        assert at_broker(kafka, lambda: asyncio.to_thread(enough.wait, 30))


def test_a_listener_for_tls_is_named_if_there_are_no_credentials(tmp_path_factory: pytest.TempPathFactory) -> None:
    issued = Authority(tmp_path_factory.mktemp("certificates")).issue("broker", "spiffe://groupbuy.internal/broker")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)

    def tls(peer: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(peer, server_side=True) as wrapped:
            wrapped.recv(4096)

    for verify in (ssl.CERT_NONE, ssl.CERT_REQUIRED):
        context.verify_mode = verify
        with listener(tls) as kafka:
            sentence, _ = refusal(kafka)
        assert sentence.startswith(f"the broker at {kafka} speaks TLS: set GROUPBUY_OPS_KAFKA_USER, ")


def test_a_plaintext_listener_is_named_if_there_are_credentials(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = Authority(tmp_path_factory.mktemp("certificates")).issue("ops", "spiffe://groupbuy.internal/ops")
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_USER", "ops")
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_PASSWORD", "secret")
    monkeypatch.setenv("GROUPBUY_OPS_KAFKA_CA", str(issued.ca))

    def http(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listener(http) as kafka:
        assert "does not speak TLS: unset GROUPBUY_OPS_KAFKA_USER" in refusal(kafka)[0]


def test_a_provider_that_does_not_answer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with listener(broker) as kafka, listener(silent) as quiet:
        for provider in (quiet, "127.0.0.1:1"):
            for command in ("audit", "reconcile"):
                assert main([command, "--kafka", kafka, "--provider", provider]) == CANNOT_RUN
                assert f"no provider answers at {provider} within 0.4 s" in capsys.readouterr().err


def test_a_broker_that_ends_the_connection_of_kafkas_client_is_reported() -> None:
    """As a broker does that advertises an address out of reach, or refuses the credentials."""

    async def run() -> None:
        async with Reader(kafka, ["orders.order.v1"]):
            pass

    with listener(broker) as kafka, pytest.raises(OpsError, match="no connection to the Kafka broker") as caught:
        at_broker(kafka, run)
    assert caught.value.exit_code == CANNOT_RUN


def test_a_listener_of_another_protocol_is_no_broker() -> None:
    def greeting(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.sendall(b"SSH-2.0-OpenSSH\r\n")

    with listener(greeting) as address:
        assert "is no Kafka broker: it speaks another protocol" in refusal(address)[0]


def test_an_unreachable_broker_is_reported_at_once() -> None:
    sentence, seconds = refusal("127.0.0.1:1")
    assert sentence.startswith("no Kafka broker answers at 127.0.0.1:1")
    assert seconds < 10 * DEADLINE_S
    assert "no Kafka broker answers at broker.invalid:9092" in refusal("broker.invalid:9092", watched=False)[0]
