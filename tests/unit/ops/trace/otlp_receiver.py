"""A small OTLP receiver: a gRPC server that keeps the spans it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` by the name of their service."""

    target: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)
    requests: int = 0

    async def Export(self, request: otlp.ExportTraceServiceRequest, context: Any) -> otlp.ExportTraceServiceResponse:
        self.requests += 1
        for resource in request.resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return otlp.ExportTraceServiceResponse()


@asynccontextmanager
async def receiver(address: str = "127.0.0.1:0") -> AsyncIterator[Receiver]:
    """A receiver that listens on its `target`."""
    made = Receiver()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(address)
    await server.start()
    made.target = f"127.0.0.1:{port}"
    try:
        yield made
    finally:
        await server.stop(None)
