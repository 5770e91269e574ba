"""Runs a command's coroutine at the broker, and turns the broker's errors into one sentence and an exit code.

Kafka's clients wait for a silent broker for minutes, and report a TLS listener as a closed connection. So a command
first sends one request of its own with a deadline, and repeats it while it runs.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError

from eventlog.broker.security import Kafka, client
from eventlog.core.errors import TopicsDiffer
from ops.errors import OpsError, cannot_run
from ops.security import OpsSettings, cluster, timeout_s

T = TypeVar("T")

#: Kafka's ApiVersions request, version 0: any broker answers it before it asks for credentials.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
#: Maximum seconds to find out whether a listener that does not answer speaks TLS.
_TLS_S = 3.0
#: Probes in a row without an answer, after which a running command ends. One may fail while the process is busy.
_MAX_UNANSWERED = 2


class _NoTls(OSError):
    """The listener speaks plaintext, and we have credentials for TLS."""


class _NeedsTls(OSError):
    """The listener speaks TLS, and we have no credentials."""


class _Address(NamedTuple):
    host: str
    port: int


def no_broker(kafka: object) -> OpsError:
    """The error of an unreachable broker."""
    return cannot_run(f"no Kafka broker answers at {kafka}: start one (`make up`) or use --kafka host:port")


def no_connection(kafka: object) -> OpsError:
    """The error of a broker that answers, but to which Kafka's client can't connect."""
    user = OpsSettings.variable("kafka_user")
    return cannot_run(
        f"no connection to the Kafka broker at {kafka}: check that it runs, that its advertised address can be reached "
        f"from here, and the credentials ({user})"
    )


def at_broker(address: str, run: Callable[[], Coroutine[Any, Any, T]], *, watched: bool = True) -> T:
    """Runs a coroutine and returns its result. Turns errors of the broker into OpsError.

    A broker that is silent at the start ends the command within $GROUPBUY_OPS_TIMEOUT_SECONDS. With `watched`, so does
    one that falls silent later, within three times that; a command that writes is not watched, because Kafka's client
    ends its requests.
    """
    kafka, deadline_s = cluster(address), timeout_s()

    async def guarded() -> T:
        await probe(kafka, deadline_s)
        if not watched:
            return await run()
        running = asyncio.ensure_future(run())
        watching = asyncio.ensure_future(_watch(kafka, deadline_s))
        try:
            await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return await running
            raise watching.exception() or asyncio.CancelledError
        finally:
            for task in (running, watching):
                task.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)

    try:
        return asyncio.run(guarded())
    except TopicsDiffer as error:
        raise OpsError(f"{address}: {error}") from error
    except KafkaConnectionError:
        raise no_connection(address) from None
    except UnknownTopicOrPartitionError as error:
        raise cannot_run(f"the broker at {address} has no such topic or partition: {error!r}") from None
    except TimeoutError:
        raise cannot_run(f"the broker at {address} stopped answering: run it again") from None
    except KafkaError as error:
        raise cannot_run(f"the broker at {address} refused or timed out: {error!r}") from error


async def probe(kafka: Kafka, deadline_s: float) -> None:
    """Returns when one of the broker's addresses answers. Raises OpsError."""
    text = str(kafka)
    try:
        context = client(kafka).get("ssl_context")
    except OSError as error:
        raise cannot_run(f"{OpsSettings.variable('kafka_ca')} can't be loaded: {error}") from None
    asking = [asyncio.ensure_future(_ask(one, context)) for one in _addresses(text)]
    errors: list[BaseException] = []
    try:
        async with asyncio.timeout(deadline_s):
            for one in asyncio.as_completed(asking):
                try:
                    return await one
                except OSError as error:
                    errors.append(error)
    except TimeoutError:
        raise cannot_run(f"the broker at {text} does not answer within {deadline_s:g} s") from None
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise _sentence(text, errors)


async def _watch(kafka: Kafka, deadline_s: float) -> Any:
    """Ends with OpsError when the broker does not answer any more."""
    unanswered = 0
    while True:
        await asyncio.sleep(deadline_s / 2)
        try:
            await probe(kafka, deadline_s)
            unanswered = 0
        except OpsError as error:
            unanswered += 1
            if unanswered == _MAX_UNANSWERED:
                raise cannot_run(f"the broker stopped answering: {error}") from None


def _addresses(text: str) -> list[_Address]:
    pairs = [one.strip().rpartition(":") for one in text.split(",")]
    return [_Address(host.strip("[]"), int(port)) for host, _, port in pairs]


async def _ask(address: _Address, context: ssl.SSLContext | None) -> None:
    """Sends one request and reads the beginning of its response. Raises OSError."""
    try:
        reader, writer = await asyncio.open_connection(*address, ssl=context)
    except ssl.SSLCertVerificationError:
        raise
    except ssl.SSLError as error:
        raise _NoTls(str(error)) from error
    try:
        writer.write(_API_VERSIONS)
        await writer.drain()
        size, correlation = struct.unpack(">ii", await reader.readexactly(8))
        if correlation == 1 and size > 0:
            return
    except (asyncio.IncompleteReadError, ConnectionResetError):
        # The listener has closed the connection: a TLS listener does so, some after an alert.
        pass
    finally:
        writer.close()
    if context is None and await _speaks_tls(address):
        raise _NeedsTls
    raise ConnectionError("it speaks another protocol than Kafka's")


async def _speaks_tls(address: _Address) -> bool:
    # Only the protocol is of interest here; nothing is sent, so no certificate is verified.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_TLS_S):
            _, writer = await asyncio.open_connection(*address, ssl=context)
    except ssl.SSLError as error:
        # An alert is TLS too: the listener asks for a certificate of ours.
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TLS_S):
            await writer.wait_closed()
    return True


def _sentence(text: str, errors: list[BaseException]) -> OpsError:
    user, ca = OpsSettings.variable("kafka_user"), OpsSettings.variable("kafka_ca")
    for error in errors:
        if isinstance(error, _NeedsTls):
            password = OpsSettings.variable("kafka_password")
            return cannot_run(f"the broker at {text} speaks TLS: set {user}, {password} and {ca}")
        if isinstance(error, ssl.SSLCertVerificationError):
            return cannot_run(f"the certificate of the broker at {text} is not trusted ({error.verify_message}): {ca}")
        if isinstance(error, _NoTls):
            return cannot_run(f"the broker at {text} does not speak TLS: unset {user}, or use its TLS address")
    for error in errors:
        if type(error) is ConnectionError:
            return cannot_run(f"{text} is no Kafka broker: {error}")
    return no_broker(text)
