"""Exports spans to an OpenTelemetry collector by OTLP over gRPC. Needs the extra `tracing`.

    async with OtlpExporter("collector:4317") as exporter:
        await exporter.export(builder.take(topic, record))

A collector that is away loses nothing at once: spans wait in memory, and the oldest are dropped and counted beyond
MAX_QUEUED. A span that is sent twice has the same id both times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from ops.errors import cannot_run
from ops.trace.span import Span, Value

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#: Spans of one request: about 250 KB.
BATCH_SPANS = 500
#: Spans that wait for a collector that is away, about 100 MB.
MAX_QUEUED = 100_000
#: Seconds for one request.
TIMEOUT_S = 10.0

_NS_PER_MS = 1_000_000
_OK, _ERROR = 1, 2
_SAMPLED_FLAG = 1


def request_of(spans: Iterable[Span], version: str = "") -> ExportTraceServiceRequest:
    """The OTLP request with these spans, one resource for each service. Raises OpsError without the extra."""
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError:
        raise cannot_run("traces can't be exported: install groupbuy-settlement[tracing]") from None
    request = trace_service_pb2.ExportTraceServiceRequest()
    scopes: dict[str, Any] = {}
    for span in spans:
        scope = scopes.get(span.service)
        if scope is None:
            resource = request.resource_spans.add()
            attributes = {"service.name": f"groupbuy-{span.service}", "service.namespace": "groupbuy"}
            _fill_attributes(resource.resource.attributes, attributes)
            scope = scopes[span.service] = resource.scope_spans.add()
            scope.scope.name = "groupbuy.log"
            scope.scope.version = version
        _fill(scope.spans.add(), span)
    return request


def _fill(made: Any, span: Span) -> None:
    made.trace_id = bytes.fromhex(span.trace_id)
    made.span_id = bytes.fromhex(span.span_id)
    made.parent_span_id = bytes.fromhex(span.parent_id)
    made.name = span.name
    made.kind = span.kind.value
    made.start_time_unix_nano = span.start_ms * _NS_PER_MS
    made.end_time_unix_nano = span.end_ms * _NS_PER_MS
    made.flags = _SAMPLED_FLAG if span.sampled else 0
    made.status.code = _ERROR if span.error else _OK
    made.status.message = span.error
    _fill_attributes(made.attributes, span.attributes)
    for link in span.links:
        made.links.add(trace_id=bytes.fromhex(link.trace_id), span_id=bytes.fromhex(link.span_id))


def _fill_attributes(made: Any, attributes: Mapping[str, Value]) -> None:
    for key, value in attributes.items():
        one = made.add(key=key)
        if isinstance(value, int):
            one.value.int_value = value
        else:
            one.value.string_value = value


class OtlpExporter:
    """Sends spans to one collector. Use it as an async context manager, on one event loop."""

    def __init__(self, target: str, *, credentials: grpc.ChannelCredentials | None = None, version: str = "") -> None:
        """`target` is host:port. Without `credentials` the connection is not encrypted."""
        self._target = target
        self._credentials = credentials
        self._version = version
        self._queue: deque[Span] = deque()
        self._channel: grpc.aio.Channel | None = None
        self._export: Any = None
        #: Spans that the collector has accepted, that it has rejected, and that were dropped before they were sent.
        self.sent = 0
        self.rejected = 0
        self.dropped = 0
        #: The error of the last request; empty after a successful one.
        self.error = ""
        # Fails now, and not at the first span, if the extra is missing.
        request_of(())

    async def __aenter__(self) -> OtlpExporter:
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target)
        else:
            self._channel = grpc.aio.secure_channel(self._target, self._credentials)
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        self._export = self._channel.unary_unary(
            METHOD,
            request_serializer=trace_service_pb2.ExportTraceServiceRequest.SerializeToString,
            response_deserializer=trace_service_pb2.ExportTraceServiceResponse.FromString,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._channel is not None
        await self._channel.close(None)

    @property
    def queued(self) -> int:
        """Spans that wait to be sent."""
        return len(self._queue)

    def add(self, spans: Iterable[Span]) -> None:
        """Adds spans to those that wait."""
        for span in spans:
            if len(self._queue) >= MAX_QUEUED:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(span)

    async def export(self, spans: Iterable[Span]) -> bool:
        """Sends spans, and those that wait. Returns False, and keeps them, if the collector does not take them now."""
        self.add(spans)
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_SPANS, len(self._queue)))]
            try:
                response = await self._export(request_of(batch, self._version), timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                self.error = f"{error.code().name} {error.details()}"
                self._queue.extendleft(reversed(batch))
                return False
            rejected = response.partial_success.rejected_spans
            self.rejected += rejected
            self.sent += len(batch) - rejected
            self.error = response.partial_success.error_message
        return True
