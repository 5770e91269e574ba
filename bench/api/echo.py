"""A bare grpc.aio echo server: the cost of a call without our code."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc


class _Echo(grpc.GenericRpcHandler):  # type: ignore[misc, type-arg, unused-ignore]
    """Handles every method."""

    def service(self, handler_call_details: Any) -> Any:
        """gRPC's hook."""
        return grpc.unary_unary_rpc_method_handler(self._echo)

    async def _echo(self, request: bytes, context: Any) -> bytes:
        return request


async def main() -> None:
    """Serves until it is killed; prints the port."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
