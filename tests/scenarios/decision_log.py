"""Decision logs written by hand: versions count from 1, and each decision has the digest of the one before."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Generic, TypeVar

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

R = TypeVar("R")


class DecisionLog(Generic[R]):
    """The decisions of one group or of its payments. `record` makes a log record of a decision's bytes."""

    def __init__(
        self, kind: type[GroupDecision] | type[PaymentDecision], group: str, record: Callable[[bytes], R]
    ) -> None:
        self._kind: Any = kind
        self._group = group
        self._record = record
        self._digest = b""
        self.records: list[R] = []

    def decide(self, time_ms: int, *events: Any, cause: int | None = None) -> R:
        """Appends a decision. Its cause is by default its version."""
        version = len(self.records) + 1
        value = self._kind(
            group=self._group,
            version=version,
            cause=version if cause is None else cause,
            time_ms=time_ms,
            previous_sha256=self._digest,
            events=events,
        ).SerializeToString()
        self._digest = sha256(value).digest()
        self.records.append(self._record(value))
        return self.records[-1]
