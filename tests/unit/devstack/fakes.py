"""Fakes of the processes of a stack: a socket that answers as a broker, and tiny commands in place of services."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from devstack.product import Child, Layout, Plan, replica_name

FOR_EVER = "import signal; signal.pause()"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


def child(name: str, code: str) -> Callable[[Layout], Child]:
    def make(layout: Layout) -> Child:
        environment = {"ENDPOINT": layout.endpoints[name], "BROKER": layout.kafka}
        return Child(name, python(code), environment, health=False)

    return make


def plan(topics: str | None = None, provider: str = FOR_EVER, **services: str) -> Plan:
    """A plan of processes that run Python code. Each counts as serving while it runs."""
    return Plan(
        topics=None if topics is None else lambda kafka, partitions: (*python(topics), kafka, str(partitions)),
        first=MappingProxyType({"provider": child("provider", provider)}),
        then=MappingProxyType({name: child(name, code) for name, code in services.items()}),
        replica=lambda service, number: child(replica_name(service, number), services[service]),
    )


@contextmanager
def broker(brokers: int = 1) -> Iterator[str]:
    """host:port of a socket that answers every Metadata request with a number of brokers."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(struct.pack(">iii", 8, 1, brokers))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def state(pid: int) -> str:
    """The process state of /proc; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
