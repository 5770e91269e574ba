"""The lifecycle of a service process: start, wait for the broker, recover, serve, drain.

Exit codes: 0, drained after SIGTERM or SIGINT; 2, an invalid setting; 70, a failure after which a supervisor restarts
the process. The process reports SERVING only after its state is recovered.
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

from chassis.admission.thread_priority import SERVING, ThreadPriorities
from chassis.identity import tls
from chassis.identity.authorizer import create_authorizer
from chassis.identity.policy import PolicyError
from chassis.identity.tls import BadCertificates
from chassis.lifecycle.backoff import retries_until_success
from chassis.lifecycle.broker_health import UNAVAILABLE, BrokerHealth
from chassis.lifecycle.health_state import HealthState
from chassis.lifecycle.observation import Observation
from chassis.lifecycle.settings import EXIT_CODE as BAD_SETTING
from chassis.lifecycle.settings import ServiceSettings
from chassis.lifecycle.watchdog import STUCK_S, Watchdog
from chassis.rpc.server import PortTaken, Server, Servicer
from chassis.telemetry import logging
from chassis.telemetry.metrics.exposition import Collect
from eventlog.broker.security import Kafka, client
from eventlog.core.errors import Poisoned, TopicsDiffer
from eventlog.producing.publisher import Publisher
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import private_files
from eventlog.runtime.abort import EXIT_CODE as CRASH

__all__ = ["Processors", "ServiceSpec", "Servicer", "run"]

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two checks of whether the process can serve.
POLL_INTERVAL_S = 0.2
#: Seconds in addition to twice `drain_seconds` after which the watchdog ends a process that is stopping.
STOP_SLACK_S = 5.0


class Processors(Protocol):
    """The stream processors of a service as one. A processor that fails ends the process by itself."""

    @property
    def ready(self) -> bool:
        """Whether the state of all owned partitions can be read."""
        ...

    @property
    def quarantined(self) -> Sequence[tuple[str, Poisoned]]:
        """The records that quarantine a partition, each with its consumer group."""
        ...

    async def start(self, partitions: int) -> None:
        """Returns once recovered. `partitions` is the number of every topic."""
        ...

    async def stop(self) -> None:
        """Finishes the work in flight. Also called if `start` was cancelled."""
        ...


class BrokerLike(Protocol):
    """The interface of chassis.lifecycle.broker_health.BrokerHealth."""

    available: bool

    async def wait(self) -> int: ...
    async def watch(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """The parts of a service. `topics` are all topics that it reads or writes."""

    servicers: Sequence[Servicer]
    publisher: Publisher
    processors: Processors
    topics: tuple[TopicSpec, ...]
    #: Of gRPC's threads.
    thread_priorities: ThreadPriorities = SERVING
    #: Make the samples of the service's own metrics.
    collectors: Sequence[Collect] = ()


S = TypeVar("S", bound=ServiceSettings)
MakeBroker = Callable[[Kafka, Sequence[TopicSpec], str], BrokerLike]


def run(
    settings: S,
    build: Callable[[S], ServiceSpec],
    *,
    make_broker: MakeBroker = BrokerHealth,
    stuck_s: float = STUCK_S,
) -> int:
    """Runs the service until SIGTERM or SIGINT, and returns the process's exit code.

    `build` is called once, on the event loop; it opens no connection. An event loop that is stuck for `stuck_s` seconds
    ends the process.
    """
    logging.configure(
        level=settings.log_level, form=settings.log_format, service=settings.service, instance=settings.instance
    )
    watchdog = Watchdog(stuck_s)
    observation = Observation(settings, watchdog)
    code = CRASH
    try:
        code = asyncio.run(_Process(settings, lambda: build(settings), make_broker, watchdog, observation).run())
    finally:
        observation.stop(code)
        watchdog.stop()
    return code


class _BadSetting(Exception):
    """A setting is invalid. The message has the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class _Process:
    def __init__(
        self,
        settings: ServiceSettings,
        build: Callable[[], ServiceSpec],
        make_broker: MakeBroker,
        watchdog: Watchdog,
        observation: Observation,
    ) -> None:
        self._settings = settings
        self._build_spec = build
        self._make_broker = make_broker
        self._watchdog = watchdog
        self._observation = observation
        self._health: HealthState = observation.health
        self._stop_requested = asyncio.Event()
        #: The parts to stop, in the order of their start.
        self._started: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def run(self) -> int:
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._watchdog.start()
        try:
            spec, server, port = self._build()
        except _BadSetting as error:
            sys.stderr.write(f"{settings.service} can't start: {error} ({settings.variable(error.field)})\n")
            return BAD_SETTING
        await server.start()
        encrypted = not settings.insecure
        log.info("listening", address=settings.listen, port=port, encrypted=encrypted, pid=os.getpid())
        broker = self._make_broker(settings.brokers, spec.topics, settings.service)
        serving = asyncio.create_task(self._serve(spec, server, broker), name="serve")
        stop_requested = asyncio.create_task(self._stop_requested.wait(), name="stop requested")
        await asyncio.wait([serving, stop_requested], return_when=asyncio.FIRST_COMPLETED)
        stop_requested.cancel()
        if serving.done():
            # The task was not cancelled here: a CancelledError came from inside a call.
            return self._failed(asyncio.CancelledError() if serving.cancelled() else serving.exception())
        return await self._drain(serving, server, broker)

    def _build(self) -> tuple[ServiceSpec, Server, int]:
        """The parts, the server and its bound port. Raises _BadSetting."""
        settings = self._settings
        try:
            private_files.from_now_on()
            private_files.directory(settings.state_dir)
            self._observation.count_run()
        except OSError as error:
            raise _BadSetting("state_dir", f"can't make {settings.state_dir}: {error.strerror}") from error
        try:
            client(settings.brokers)
        except OSError as error:
            raise _BadSetting("kafka_ca", f"{settings.kafka_ca} has no usable authority: {error}") from error
        try:
            spec = self._build_spec()
            files = tls.certificate_files(settings)
            authorizer = create_authorizer(settings, settings.service, files)
            server = Server(
                spec.servicers,
                max_calls=settings.max_calls,
                max_streams=settings.max_streams,
                authorizer=authorizer,
                files=files,
                thread_priorities=spec.thread_priorities,
            )
            port = server.bind(settings.listen)
        except PolicyError as error:
            raise _BadSetting("policy", str(error)) from error
        except BadCertificates as error:
            raise _BadSetting("tls_certificate", str(error)) from error
        except PortTaken as error:
            raise _BadSetting("listen", str(error)) from error
        try:
            self._observation.serve(server, files, spec.collectors)
        except OSError as error:
            reason = f"can't listen on {settings.metrics_listen}: {(error.strerror or str(error)).lower()}"
            raise _BadSetting("metrics_listen", reason) from error
        return spec, server, port

    async def _serve(self, spec: ServiceSpec, server: Server, broker: BrokerLike) -> None:
        """Starts the parts and keeps health up to date until cancelled. Ends only by an error."""
        publisher, processors = spec.publisher, spec.processors
        self._started.append(("publisher", publisher.stop))
        async for attempt in retries_until_success(*UNAVAILABLE):
            with attempt:
                partitions = await broker.wait()
                try:
                    await publisher.start(partitions)
                except UNAVAILABLE as error:
                    log.warning(f"the broker is unavailable; retrying in {attempt.next_wait:.1f} s", error=repr(error))
                    raise
        log.info("the broker is available, recovering", partitions=publisher.partitions)
        self._started.append(("processors", processors.stop))
        watching = asyncio.create_task(broker.watch(), name="broker")
        reporting = asyncio.create_task(self._report(broker, publisher), name="health")
        try:
            await processors.start(publisher.partitions)
            while not watching.done():
                checks = {"broker": broker.available, "processors": processors.ready, "publisher": publisher.ready}
                serving = self._health.update(**checks)
                if serving != server.serving:
                    log.info(
                        "serving" if serving else "not serving",
                        broker_available=checks["broker"],
                        ready=checks["processors"],
                        publisher=checks["publisher"],
                    )
                    await server.set_serving(serving)
                quarantined = processors.quarantined
                self._health.quarantined = len(quarantined)
                if server.all_partitions == bool(quarantined):
                    self._log_quarantined(quarantined)
                    await server.set_all_partitions(not quarantined)
                await asyncio.sleep(POLL_INTERVAL_S)
            watching.result()
        finally:
            watching.cancel()
            reporting.cancel()

    async def _report(self, broker: BrokerLike, publisher: Publisher) -> None:
        """Keeps the checks of the connections up to date, also while the processors recover. Runs until cancelled."""
        while True:
            self._health.update(broker=broker.available, publisher=publisher.ready)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _drain(self, serving: asyncio.Task[None], server: Server, broker: BrokerLike) -> int:
        """Ends the calls, then the processors, then their publisher; returns the exit code."""
        seconds = self._settings.drain_seconds
        self._watchdog.end_within(2 * seconds + STOP_SLACK_S)
        log.info("stopping", calls=len(server.pipeline.unary), streams=len(server.pipeline.streams))
        serving.cancel()
        self._health.stop()
        await server.drain(seconds)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait([serving])
                for name, stop in reversed(self._started):
                    log.debug("stopping", part=name)
                    await stop()
                await broker.close()
        except TimeoutError:
            # No data is lost: the next owner reads again whatever was not acknowledged.
            return self._crash(f"not drained within {seconds:g} s")
        except Exception as error:  # noqa: BLE001 - any error ends the process and is logged
            return self._crash("draining failed", error)
        log.info("stopped")
        return 0

    @staticmethod
    def _log_quarantined(quarantined: Sequence[tuple[str, Poisoned]]) -> None:
        for group, one in quarantined:
            place = {"topic": one.topic, "partition": one.partition, "offset": one.offset, "sha256": one.sha256}
            log.critical("a partition is quarantined", group=group, reason=one.reason, **place)
        if not quarantined:
            log.info("no partition is quarantined")

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop_requested.is_set():
            # Writing the log line may block if its reader is stuck.
            self._watchdog.end_within(1)
            log.warning("second signal, ending at once", signal=number.name)
            os._exit(128 + number)
        log.info("stop requested", signal=number.name)
        self._stop_requested.set()

    def _failed(self, error: BaseException | None) -> int:
        if isinstance(error, TopicsDiffer):
            return self._crash(f"the broker's topics differ: {error}")
        return self._crash("the service failed", error)

    def _crash(self, reason: str, error: BaseException | None = None) -> int:
        # Tasks and threads that are still running may not end by themselves.
        self._watchdog.end_within(STOP_SLACK_S)
        log.critical(f"ending with code {CRASH}: {reason}", exc_info=error)
        return CRASH
