"""The process: the fold of the logs beside it, the listeners, and what they follow."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from chassis.identity.tls import BadCertificates, CertificateFiles, RotatingChannel, certificate_files
from chassis.lifecycle.settings import host_and_port
from chassis.rpc.client_config.channel_options import options
from chassis.telemetry.http_listener import Answer, HttpListener
from chassis.telemetry.metrics.exposition import CONTENT_TYPE, MetricsCollector
from chassis.telemetry.metrics.metrics_process import build_metrics
from console.live.board import Board
from console.live.fold import POLL_S, fold
from console.live.reports import REPORT, Report
from console.live.services import Services
from console.live.stock import Stocks
from console.metrics import console_metrics
from console.pages.application import OperatorPages
from console.settings import ConsoleSettings
from console.share.application import SharePages
from console.share.links import Links
from console.web.connections import Connections, Listener
from console.web.passwords import BadOperators, Operators
from console.web.streams import Places
from console.web.templates import environment
from eventlog.runtime import private_files
from eventlog.runtime.concurrency import run_until_first_ends
from ops.errors import OpsError
from ops.security import cluster
from ops.watch.command import parse_statement
from ops.watch.lag import Lags, follow
from ops.watch.liveness import Liveness
from ops.watch.processes import Processes
from ops.watch.view import View
from ops.watch.worker import Job

log = logging.getLogger(__name__)

#: Seconds in which open requests end at a stop.
_STOP_S = 1.0
#: Connections that wait for their acceptance.
_BACKLOG = 1_024


class Unusable(Exception):
    """A setting can't be used. The message says which, and why."""


class Console:
    """The console of one system."""

    def __init__(self, settings: ConsoleSettings) -> None:
        """Connects to nothing. Raises Unusable."""
        self._settings = settings
        _check_listener(settings)
        environment()
        try:
            operators = Operators(settings.operators_file) if settings.operators_file else None
            files, share_files = certificate_files(settings), _share_files(settings)
            statements = tuple(parse_statement(one.strip()) for one in settings.statements.split(",") if one.strip())
        except (BadOperators, BadCertificates, OpsError, OSError) as error:
            raise Unusable(str(error)) from error
        self._job = Job(
            kafka=settings.kafka,
            state=str(settings.state_dir),
            statements=statements,
            statement_every_s=settings.statement_every_seconds,
            poll_s=POLL_S,
        )
        self.view = View(1, settings.roots)
        self.board = Board(self.view)
        self.places = Places(settings.max_streams)
        self._services = Services(settings, files)
        self._stocks = Stocks(self._services)
        self.pages = OperatorPages(settings, self.board, self._services, self._stocks, self.places, operators)
        channel = RotatingChannel(settings.groups, share_files, settings.groups_identity, options(retries=False))
        self.share = SharePages(settings, Links(channel), self.places, lambda: self.addresses["share"])
        #: host:port of each listener: console, and share.
        self.addresses: dict[str, str] = {}
        self._liveness = Liveness()

    async def run(self) -> None:
        """Runs until a signal arrives. Raises Unusable if an address can't be used."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        listeners: list[Listener] = []
        with state_directory(self._settings.state_dir), self._metrics():
            processes = Processes(self._job, self._take, main=fold, decode=REPORT.decode)
            try:
                await self._listen("console", self._settings.listen, self.pages.application(), listeners)
                if self._settings.share_listen:
                    await self._listen("share", self._settings.share_listen, self.share.application(), listeners)
                log.info("pages for operators at http://%s", self.addresses["console"])
                await self._until(stopped, processes)
            finally:
                await self.pages.close()
                await self.share.close()
                await self._services.close()
                await asyncio.gather(*(one.stop() for one in listeners), return_exceptions=True)

    async def _until(self, stopped: asyncio.Event, processes: Processes) -> None:
        await run_until_first_ends(
            stopped.wait(),
            processes.run(),
            self._follow_readers(),
            self._services.follow(),
            self._stocks.follow(),
            self.pages.follow(),
            self.share.follow(),
        )

    async def _listen(self, name: str, address: str, application: web.Application, listeners: list[Listener]) -> None:
        listener = Listener(application, Connections())
        listeners.append(listener)
        host, port = host_and_port(address)
        try:
            bound = await listener.start(host, port, backlog=_BACKLOG, stop_s=_STOP_S)
        except OSError as error:
            raise Unusable(f"can't listen on {address}: {error.strerror or error}") from error
        self.addresses[name] = f"{host}:{bound}"

    def _take(self, report: Report) -> None:
        self.board.take(report)

    async def _follow_readers(self) -> None:
        """Follows how far each consumer group is behind."""

        def failed(error: Exception) -> None:
            log.warning("the readers' progress can't be read, retrying: %s", error)
            self.view.lags, self.view.problems = Lags([], {}), []
            self.board.tell()

        async for lags in follow(lambda: cluster(self._settings.kafka), failed):
            self.view.lags = lags
            self.view.problems = self._liveness.observe(lags, time.monotonic())
            self.board.tell()

    @contextmanager
    def _metrics(self) -> Iterator[None]:
        """Serves metrics and probes, if there is an address for them."""
        if not self._settings.metrics_listen:
            yield
            return
        collector = MetricsCollector([build_metrics("console"), console_metrics(self)])
        pages = {
            "/metrics": lambda: Answer(200, CONTENT_TYPE, collector.text()),
            "/live": lambda: _probe(passed=True, live=True),
            "/ready": lambda: _probe(passed=self.ready, ready=self.ready, behind=self.view.behind),
            "/startup": lambda: _probe(passed=self.ready, ready=self.ready, behind=self.view.behind),
        }
        try:
            listener = HttpListener(*host_and_port(self._settings.metrics_listen), pages)
        except OSError as error:
            raise Unusable(f"can't listen on {self._settings.metrics_listen}: {error.strerror or error}") from error
        listener.start()
        try:
            yield
        finally:
            listener.stop()

    @property
    def ready(self) -> bool:
        """Whether the pages show a recent state."""
        return "console" in self.addresses and self.view.complete


def _probe(*, passed: bool, **content: object) -> Answer:
    return Answer(200 if passed else 503, "application/json", (json.dumps(content) + "\n").encode())


def _check_listener(settings: ConsoleSettings) -> None:
    """Pages without authentication are for this machine alone. Raises Unusable."""
    host, _ = host_and_port(settings.listen)
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and settings.operators_file is None:
        names = f"{settings.variable('listen')} is {settings.listen!r}", settings.variable("operators_file")
        raise Unusable(f"{names[0]}: an address of other machines needs {names[1]}")
    if not settings.join_url.startswith(("https://", "http://")):
        raise Unusable(f"{settings.variable('join_url')} has to begin with https://")


def _share_files(settings: ConsoleSettings) -> CertificateFiles | None:
    """The certificate of the share page's identity. Raises BadCertificates and Unusable."""
    if settings.insecure or not settings.share_listen:
        return None
    certificate, key, ca = settings.share_tls_certificate, settings.share_tls_key, settings.tls_ca
    if certificate is None or key is None or ca is None:
        names = f"{settings.variable('share_tls_certificate')} and {settings.variable('share_tls_key')}"
        raise Unusable(f"the share page has an identity of its own: set {names}")
    return CertificateFiles(certificate, key, ca)


@contextmanager
def state_directory(path: Path) -> Iterator[None]:
    """Creates and locks the state directory. Raises Unusable."""
    try:
        lock = private_files.lock_directory(path)
    except private_files.InUse:
        raise Unusable(f"another console uses {path}") from None
    with lock:
        yield
