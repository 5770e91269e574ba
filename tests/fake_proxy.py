"""An HTTP proxy that counts connections and refuses each, and the variables of an environment that names it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


class FakeProxy:
    """Counts the connections that clients made."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.connections = 0
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def run(self) -> None:
        """Refuses connections until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()


@contextmanager
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProxy]:
    """Names the proxy in the environment, for loopback addresses as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FakeProxy(listener)
        threading.Thread(target=proxy.run, daemon=True).start()
        for name in _VARIABLES:
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
