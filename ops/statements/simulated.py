"""The statement of the simulated provider, by gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from groupbuy.simprovider.v1.simprovider_pb2 import (
    BALANCE_KIND_PAYOUT,
    ExportBalanceRequest,
    ExportStatementRequest,
    StatementEntry,
)
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

from ops.errors import OpsError
from ops.security import dial_provider, environments

STATEMENT_TIMEOUT_S = 60.0


async def payouts(provider: str) -> dict[tuple[str, str], int] | None:
    """The provider's payouts: amounts by payout and currency. None if other deployments share the account.

    Raises OpsError if the provider does not answer.
    """
    if environments() is not None:
        # A payout names no deployment, so our share of it is not known.
        return None
    found: dict[tuple[str, str], int] = {}
    async with dial_provider(provider) as channel:
        stub = SimProviderServiceStub(channel)
        entries = stub.ExportBalance(ExportBalanceRequest(), timeout=STATEMENT_TIMEOUT_S, wait_for_ready=True)
        try:
            async for one in entries:
                if one.kind == BALANCE_KIND_PAYOUT:
                    name = one.source, one.currency
                    found[name] = found.get(name, 0) - one.amount_minor
        except grpc.aio.AioRpcError as error:
            raise _no_statement(provider, error) from error
    return found


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
            raise _no_statement(provider, error) from error


def _no_statement(provider: str, error: grpc.aio.AioRpcError) -> OpsError:
    return OpsError(f"the provider at {provider} returns no statement ({error.code().name}): check that it runs there")
