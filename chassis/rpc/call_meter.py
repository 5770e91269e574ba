"""Counts the calls of a server by method and status: plain numbers, read at a scrape on another thread."""

from __future__ import annotations

import time
from typing import Protocol

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.errors import ApiError
from chassis.telemetry.metrics.metrics_of_services import GRPC_SECONDS
from eventlog.runtime.counters import Histogram

#: gRPC's types of methods, by whether requests and responses are streams.
TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


class HasCode(Protocol):
    """The part of a call's context that tells its status."""

    def code(self) -> grpc.StatusCode | None:
        """The status that the call was aborted with, or None."""
        ...


class MethodMeter:
    """The calls of one method."""

    __slots__ = ("codes", "grpc_type", "seconds", "started")

    def __init__(self, grpc_type: str) -> None:
        self.grpc_type = grpc_type
        #: Calls that the event loop has taken.
        self.started = 0
        #: Calls that ended, by the name of their status.
        self.codes: dict[str, int] = {"OK": 0}
        self.seconds = Histogram(GRPC_SECONDS.buckets)

    def begin(self) -> float:
        """Counts a call. Returns its time of beginning, for `end`."""
        self.started += 1
        return time.perf_counter()

    def end(self, began: float, context: HasCode, *, ok: bool) -> None:
        """Counts the end of a call. A call without a status was cancelled by its caller."""
        if ok:
            self.codes["OK"] += 1
        else:
            name = (context.code() or grpc.StatusCode.CANCELLED).name
            self.codes[name] = self.codes.get(name, 0) + 1
        self.seconds.observe(time.perf_counter() - began)


class CallMeters:
    """All methods of a server, and the refusals of calls by reason."""

    def __init__(self) -> None:
        #: By `/package.Service/Method`.
        self.by_method: dict[str, MethodMeter] = {}
        #: Calls answered RESOURCE_EXHAUSTED, by the name of their ErrorReason.
        self.refused: dict[str, int] = {}

    def method(self, name: str, *, request_streaming: bool, response_streaming: bool) -> MethodMeter:
        """The meter of a method."""
        made = self.by_method[name] = MethodMeter(TYPES[request_streaming, response_streaming])
        return made

    def count_error(self, error: Exception) -> None:
        """Counts a refusal for want of capacity. Other errors are counted by their status alone."""
        if isinstance(error, ApiError) and error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.count_refusal(error.reason)

    def count_refusal(self, reason: errors_pb2.ErrorReason.ValueType) -> None:
        """Counts a call answered RESOURCE_EXHAUSTED."""
        name = errors_pb2.ErrorReason.Name(reason)
        self.refused[name] = self.refused.get(name, 0) + 1
