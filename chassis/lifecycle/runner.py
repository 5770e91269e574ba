"""The life of a service process, the same for all: start, wait for the broker, recover, serve, drain.

Exit codes: 0, drained after SIGTERM or SIGINT; 2, a setting that can't be used; 70, something that must not go on here,
a supervisor starts the process again. Must never report itself SERVING before its state is recovered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError

from chassis.admission.thread_priority import SERVING, ThreadPriorities
from chassis.identity import authorizer, tls
from chassis.identity.policy import PolicyError
from chassis.identity.tls import BadCertificates
from chassis.lifecycle.broker_health import BrokerHealth, waits
from chassis.lifecycle.settings import EXIT_CODE as BAD_SETTING
from chassis.lifecycle.settings import ServiceSettings
from chassis.lifecycle.watchdog import STUCK_S, Watchdog
from chassis.rpc.server import PortTaken, Server, Servicer
from chassis.telemetry import logging
from eventlog.broker.security import Kafka, client
from eventlog.core.errors import Poisoned, TopicsDiffer
from eventlog.producing.publisher import Publisher
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import private_files
from eventlog.runtime.abort import EXIT_CODE as CRASH

__all__ = ["Processors", "ServiceSpec", "Servicer", "run"]

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two looks at whether the process can serve.
POLL_INTERVAL_S = 0.2
#: Seconds on top of twice `drain_seconds` after which a process that was told to stop is ended.
STOP_SLACK_S = 5.0


class Processors(Protocol):
    """The stream processors of a service, seen as one. A crash of any ends the process by itself."""

    @property
    def ready(self) -> bool:
        """Whether the state of all that is owned here can be read."""
        ...

    @property
    def quarantined(self) -> Sequence[tuple[str, Poisoned]]:
        """Records at which partitions stand still, each with its consumer group."""
        ...

    async def start(self, partitions: int) -> None:
        """Returns when recovered. Every topic has so many partitions."""
        ...

    async def stop(self) -> None:
        """Finishes what is under way. Also called when `start` was cancelled half way."""
        ...


class BrokerLike(Protocol):
    """What the process asks of chassis.lifecycle.broker_health.Broker."""

    there: bool

    async def wait(self) -> int: ...
    async def watch(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What a service is made of. `topics` are those that must be there: what the service reads and what it writes.
    `ranks` are those of gRPC's threads."""

    servicers: Sequence[Servicer]
    publisher: Publisher
    processors: Processors
    topics: tuple[TopicSpec, ...]
    thread_priorities: ThreadPriorities = SERVING


S = TypeVar("S", bound=ServiceSettings)
MakeBroker = Callable[[Kafka, Sequence[TopicSpec], str], BrokerLike]


def run(
    settings: S,
    wire: Callable[[S], ServiceSpec],
    *,
    make_broker: MakeBroker = BrokerHealth,
    stuck_s: float = STUCK_S,
) -> int:
    """Runs the service until it is told to stop, and returns the process's exit code.

    `wire` is called on the event loop, once; it connects to nothing. An event loop that does nothing for `stuck_s`
    seconds ends the process.
    """
    logging.configure(
        level=settings.log_level, form=settings.log_format, service=settings.service, instance=settings.instance
    )
    watchdog = Watchdog(stuck_s)
    try:
        return asyncio.run(_Process(settings, lambda: wire(settings), make_broker, watchdog).run())
    finally:
        watchdog.stop()


class _BadSetting(Exception):
    """A setting that can't be used. The message says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class _Process:
    def __init__(
        self, settings: ServiceSettings, wire: Callable[[], ServiceSpec], make_broker: MakeBroker, watchdog: Watchdog
    ) -> None:
        self._settings = settings
        self._wire = wire
        self._make_broker = make_broker
        self._watchdog = watchdog
        self._told = asyncio.Event()
        self._started: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def run(self) -> int:
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        self._watchdog.start()
        try:
            wiring, server, port = self._made()
        except _BadSetting as error:
            sys.stderr.write(f"{settings.service} can't start: {error} ({settings.variable(error.field)})\n")
            return BAD_SETTING
        await server.start()
        encrypted = not settings.insecure
        log.info("listening", address=settings.listen, port=port, encrypted=encrypted, pid=os.getpid())
        broker = self._make_broker(settings.brokers, wiring.topics, settings.service)
        living = asyncio.create_task(self._live(wiring, server, broker), name="live")
        told = asyncio.create_task(self._told.wait(), name="told")
        await asyncio.wait([living, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if living.done():
            # Nobody has cancelled it: a CancelledError came from inside a call.
            return self._failed(asyncio.CancelledError() if living.cancelled() else living.exception())
        return await self._drain(living, server, broker)

    def _made(self) -> tuple[ServiceSpec, Server, int]:
        """The parts, the server and the port that it has taken. Raises _BadSetting."""
        settings = self._settings
        try:
            private_files.from_now_on()
            private_files.directory(settings.state_dir)
        except OSError as error:
            raise _BadSetting("state_dir", f"can't make {settings.state_dir}: {error.strerror}") from error
        try:
            client(settings.brokers)
        except OSError as error:
            raise _BadSetting("kafka_ca", f"{settings.kafka_ca} has no authority to trust: {error}") from error
        try:
            wiring = self._wire()
            files = tls.certificate_files(settings)
            access = authorizer.create_authorizer(settings, settings.service, files)
            server = Server(
                wiring.servicers,
                max_calls=settings.max_calls,
                max_streams=settings.max_streams,
                access=access,
                files=files,
                thread_priorities=wiring.thread_priorities,
            )
            return wiring, server, server.bind(settings.listen)
        except PolicyError as error:
            raise _BadSetting("policy", str(error)) from error
        except BadCertificates as error:
            raise _BadSetting("tls_certificate", str(error)) from error
        except PortTaken as error:
            raise _BadSetting("listen", str(error)) from error

    async def _live(self, wiring: ServiceSpec, server: Server, broker: BrokerLike) -> None:
        """All that happens until the process is told to stop. Ends only by an error."""
        publisher, processors = wiring.publisher, wiring.processors
        self._started.append(("publisher", publisher.stop))
        for delay_s in waits():
            partitions = await broker.wait()
            try:
                await publisher.start(partitions)
                break
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning(f"the broker went away again, trying again in {delay_s:.1f} s", error=repr(error))
                await asyncio.sleep(delay_s)
        log.info("the broker is there, recovering", partitions=publisher.partitions)
        self._started.append(("processors", processors.stop))
        watching = asyncio.create_task(broker.watch(), name="broker")
        try:
            await processors.start(publisher.partitions)
            while not watching.done():
                serving = broker.there and processors.ready and publisher.ready
                if serving != server.serving:
                    log.info(
                        "serving" if serving else "not serving",
                        broker_there=broker.there,
                        ready=processors.ready,
                        publisher=publisher.ready,
                    )
                    await server.set_serving(serving)
                quarantined = processors.quarantined
                if server.all_partitions == bool(quarantined):
                    self._say_quarantined(quarantined)
                    await server.set_all_partitions(not quarantined)
                await asyncio.sleep(POLL_INTERVAL_S)
            watching.result()
        finally:
            watching.cancel()

    async def _drain(self, living: asyncio.Task[None], server: Server, broker: BrokerLike) -> int:
        """Calls first, then processors, then what they publish with."""
        seconds = self._settings.drain_seconds
        self._watchdog.end_within(2 * seconds + STOP_SLACK_S)
        log.info("stopping", calls=len(server.pipeline.unary), streams=len(server.pipeline.streams))
        living.cancel()
        await server.drain(seconds)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait([living])
                for name, stop in reversed(self._started):
                    log.debug("stopping", part=name)
                    await stop()
                await broker.close()
        except TimeoutError:
            # Nothing is lost: what was not acknowledged is read again by whoever starts next.
            return self._crash(f"not drained within {seconds:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends and says so
            return self._crash("could not be drained", error)
        log.info("stopped")
        return 0

    @staticmethod
    def _say_quarantined(quarantined: Sequence[tuple[str, Poisoned]]) -> None:
        for group, one in quarantined:
            place = {"topic": one.topic, "partition": one.partition, "offset": one.offset, "sha256": one.sha256}
            log.critical("a partition stands still", group=group, reason=one.reason, **place)
        if not quarantined:
            log.info("all partitions go on")

    def _signalled(self, number: signal.Signals) -> None:
        if self._told.is_set():
            # A log that nobody reads must not keep the process.
            self._watchdog.end_within(1)
            log.warning("told to stop again, ending at once")
            os._exit(128 + number)
        log.info("told to stop", signal=number.name)
        self._told.set()

    def _failed(self, error: BaseException | None) -> int:
        if isinstance(error, TopicsDiffer):
            return self._crash(f"the broker's topics are not what they should be: {error}")
        return self._crash("the service failed", error)

    def _crash(self, why: str, error: BaseException | None = None) -> int:
        # Whatever is left running must not keep the process.
        self._watchdog.end_within(STOP_SLACK_S)
        log.critical(f"ending with code {CRASH}: {why}", exc_info=error)
        return CRASH
