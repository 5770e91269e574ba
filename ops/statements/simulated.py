"""The statement of the simulated provider, by gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from groupbuy.simprovider.v1.simprovider_pb2 import ExportStatementRequest, StatementEntry
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from ops.errors import OpsError
from ops.security import dial_provider, environments

STATEMENT_TIMEOUT_S = 60.0


async def statement(provider: str) -> list[StatementEntry]:
    """The provider's whole statement. Raises OpsError if the provider does not answer."""
    return [entry async for entry in stream_statement(provider)]


async def stream_statement(provider: str) -> AsyncIterator[StatementEntry]:
    """The entries of our deployment in the provider's statement, as they arrive.

    Raises OpsError if the provider does not answer.
    """
    ours = environments()
    async with dial_provider(provider) as channel:
        stub = SimProviderServiceStub(channel)
        entries = stub.ExportStatement(ExportStatementRequest(), timeout=STATEMENT_TIMEOUT_S, wait_for_ready=True)
        try:
            async for entry in entries:
                if ours is None or entry.environment in ours:
                    yield entry
        except grpc.aio.AioRpcError as error:
            raise OpsError(
                f"the provider at {provider} returns no statement ({error.code().name}): check that it runs there"
            ) from error
