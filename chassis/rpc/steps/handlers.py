"""Reads and builds gRPC method handlers: finds the servicer's method, and makes the handler that replaces it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from chassis.rpc.steps.request_reader import RequestReader
from chassis.rpc.streaming.broadcast import shared_serialiser

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
#: A servicer's method: (request or requests, context) -> response or responses.
Behaviour = Callable[[Any, Context], Any]


def behaviour_of(handler: Handler) -> Behaviour:
    """The servicer's method of a handler."""
    found: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    behaviour: Behaviour = found
    return behaviour


def implemented(handler: Handler) -> bool:
    """Whether the servicer implements the method. The generated base class's own method answers UNIMPLEMENTED only."""
    return not (getattr(behaviour_of(handler), "__module__", "") or "").endswith("_pb2_grpc")


def require_async(method: str, behaviour: Callable[..., Awaitable[Any] | AsyncIterator[Any]]) -> None:
    """Raises TypeError unless the servicer's method is async."""
    if not (asyncio.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
        raise TypeError(f"{method} is served by {behaviour!r}, which is not async")


def replace_behaviour(handler: Handler, behaviour: Behaviour, max_bytes: int) -> Handler:
    """A handler with another behaviour. It takes a stream of requests, so that the behaviour reads them itself.

    On the wire nothing changes: a stream of one request is a request.
    """
    kind: Any = (
        grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    )
    parse, serialise = handler.request_deserializer, handler.response_serializer
    made: Handler = kind(
        behaviour,
        request_deserializer=RequestReader(parse, max_bytes) if parse else None,
        response_serializer=shared_serialiser(serialise) if serialise else None,
    )
    return made


class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg] # at run time it takes none
    """One handler for every method."""

    def __init__(self, behaviour: Behaviour) -> None:
        kind: Any = grpc.stream_stream_rpc_method_handler
        self._handler: Handler = kind(behaviour)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Returns the handler, whatever the method."""
        return self._handler
