"""A server with mutual TLS that answers a process's contract with empty messages, and callers with certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from chassis.identity.authorizer import Authorizer
from chassis.identity.policy import FILE, PolicySource, read
from chassis.identity.tls import CertificateFiles, expecting
from chassis.rpc.client_config.service_config import FILES
from chassis.rpc.server import OPERATIONS, Server, Servicer
from devstack.certificates.ca import Issued

SOON_S = 30.0
PROCESSES = tuple(FILES)
IDENTITIES = {name: spiffe for spiffe, name in read(FILE, "orders").names.items()}


def services(process: str) -> list[str]:
    """Full names of the services of a process."""
    return [one.full_name for file in FILES[process] for one in file.services_by_name.values()]


def methods(process: str) -> list[MethodDescriptor]:
    """All methods that a process serves. gRPC's own health service has no List."""
    pool = descriptor_pool.Default()
    found = [one for name in (*services(process), *OPERATIONS) for one in pool.FindServiceByName(name).methods]
    return [one for one in found if one.full_name != "grpc.health.v1.Health.List"]


def path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _empty(method: MethodDescriptor) -> Any:
    answer = GetMessageClass(method.output_type)()

    async def one(_request: Any, _context: Any) -> Any:
        return answer

    async def many(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield answer

    made: Callable[..., Any] = many if method.server_streaming else one
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    kind: Any = kinds[method.client_streaming, method.server_streaming]
    return kind(
        made,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _servicers(process: str) -> Iterator[Servicer]:
    for name in services(process):
        handlers = {one.name: _empty(one) for one in descriptor_pool.Default().FindServiceByName(name).methods}

        def add(_servicer: object, server: Any, name: str = name, handlers: dict[str, Any] = handlers) -> None:
            server.add_registered_method_handlers(name, handlers)

        yield Servicer(add, None, name)


@asynccontextmanager
async def serving(
    process: str, issued: Issued, policy: Path = FILE, servicers: tuple[Servicer, ...] = ()
) -> AsyncIterator[int]:
    """A server of a process's contract, with its policy; yields the port. `servicers` replace empty answers."""
    files = CertificateFiles(issued.certificate, issued.key, issued.ca)
    source = PolicySource(policy, process)
    access = Authorizer(source.read(), own=IDENTITIES[process], files=files, source=source)
    offered = servicers or tuple(_servicers(process))
    server = Server(offered, max_calls=1000, max_streams=1000, authorizer=access, files=files)
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.drain(1)


@asynccontextmanager
async def calling(port: int, issued: Issued, expect: str = "orders") -> AsyncIterator[grpc.aio.Channel]:
    """A channel with a certificate and its own connection to the server of a service."""
    credentials = grpc.ssl_channel_credentials(
        *(one.read_bytes() for one in (issued.ca, issued.key, issued.certificate))
    )
    options = [("grpc.use_local_subchannel_pool", 1), *expecting(IDENTITIES[expect])]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        yield channel


@dataclass(frozen=True)
class Answer:
    """The result of a call: its code, and the reason and delay in the status, if any."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after_ms: int = 0


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, *marks: tuple[str, str]) -> Answer:
    """Calls a method with an empty request and this metadata, and reads at most one response."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    stub: Any = getattr(channel, kind)(path(method))

    async def one() -> AsyncIterator[bytes]:
        yield b""

    while True:
        made = stub(one() if method.client_streaming else b"", timeout=SOON_S, metadata=marks)
        try:
            if not method.server_streaming:
                await made
            elif not await made.read():
                return Answer(await made.code())
        except grpc.aio.AioRpcError as error:
            if (error.details() or "").startswith(_UNSENT):
                continue
            return answer(error)
        finally:
            made.cancel()
        return Answer(grpc.StatusCode.OK)


#: Details of grpc.aio if the answer arrives before the request is sent; the second is for a stream.
_UNSENT = ('Failed "execute_batch"', "Internal error from Core")


def answer(error: grpc.aio.AioRpcError) -> Answer:
    """The answer in an error."""
    found: Any = error.trailing_metadata()
    # A list of pairs: the keys() of the oldest grpcio are pairs, so dict(found) fails.
    trailing: dict[str, Any] = dict(list(found or ()))
    status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(retry)
    return Answer(error.code(), info.reason, retry.retry_delay.ToMilliseconds())
