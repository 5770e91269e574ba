"""Health checks of a gRPC server by the standard health service. Imports gRPC only for a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chassis.rpc.client_config import channel_options

if TYPE_CHECKING:
    from devstack.certificates.ca import Issued

# The supervisor acts on the result, so this channel reconnects faster than others.
_OPTIONS = channel_options.options(max_backoff_ms=300, own_connection=True)


class Health:
    """Checks one server. Close it after use."""

    def __init__(self, endpoint: str, issued: Issued | None = None, *, expect: str = "") -> None:
        """`endpoint` is host:port. With a certificate the check uses mutual TLS, and the server must have the SPIFFE id
        `expect`."""
        import grpc
        from grpc_health.v1 import health_pb2_grpc

        self._channel: Any
        if issued is None:
            self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        else:
            from chassis.identity.tls import expecting

            pem = [path.read_bytes() for path in (issued.ca, issued.key, issued.certificate)]
            options = (*_OPTIONS, *expecting(expect))
            self._channel = grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(*pem), options=options)
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    def serving(self, *, timeout_s: float = 1.0) -> bool:
        """Whether it answers SERVING within `timeout_s` seconds."""
        import grpc
        from grpc_health.v1 import health_pb2

        try:
            answer = self._stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()
