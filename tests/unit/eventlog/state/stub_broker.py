"""A stub of the broker for the verification of state directories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pytest
from aiokafka.errors import KafkaConnectionError

from eventlog.records.log_position import LogIdentity, SourcePosition
from eventlog.state import verified_open


class StubBroker:
    """Returns the identity of the logs, and how they differ from those that were folded."""

    def __init__(self, identity: LogIdentity, monkeypatch: pytest.MonkeyPatch) -> None:
        self.identity = identity
        #: Number of queries that fail next.
        self.failures = 0
        self.queries = self.connections = 0
        monkeypatch.setattr(verified_open, "identity_of", self._identity_of)
        monkeypatch.setattr(verified_open, "LogVerifier", self._connect)
        monkeypatch.setattr(verified_open, "RETRY_S", 0.001)

    def difference(self, partition: int, sources: Mapping[str, SourcePosition]) -> str | None:
        """How the logs of a partition differ; replaced by tests."""
        return None

    async def _identity_of(self, *_: object) -> LogIdentity:
        self.queries += 1
        self._fail()
        return self.identity

    def _connect(self, *_: object) -> Any:
        self.connections += 1
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def differs(self, partition: int, sources: Mapping[str, SourcePosition]) -> str | None:
        assert sources
        self._fail()
        return self.difference(partition, sources)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise KafkaConnectionError("away")
