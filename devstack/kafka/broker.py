"""A real Kafka broker on this machine: one KRaft node on free ports, with a data directory of its own.

`start` returns only once the broker answers. A failed start leaves no process and no half-formatted directory.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import ssl
import string
import sys
import threading
import uuid
from pathlib import Path

from devstack.errors import BrokerFailed
from devstack.kafka import jars, tools
from devstack.kafka.probe import answers
from devstack.kafka.secured import Secured
from devstack.supervision import ports, private_files
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for

_HERE = Path(__file__).parent
_START_S = 90.0
_STOP_S = 8.0
_PORT_TRIES = 5
_TAKEN = "Address already in use"
# The broker lives for minutes. With the C1 compiler alone its start takes half the CPU time.
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Java decodes file names, its arguments included, by the locale, and reads none beyond ASCII in the locale C.
_LOCALE = {"LC_ALL": "C.UTF-8"} if sys.platform == "linux" else {}
_ALWAYS = ("-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


class Broker:
    """One broker. Call `start` once; then `stop`, `kill` and `restart` from any thread.

    The environment variables KAFKA_HEAP_OPTS and KAFKA_JVM_PERFORMANCE_OPTS work as in Kafka's own scripts.
    """

    def __init__(self, *, cancel: threading.Event | None = None, keep_offsets: bool = True) -> None:
        """Once `cancel` is set, a running start raises Cancelled.

        `keep_offsets` False leaves `offsets.retention.minutes` at Kafka's default, 7 days.
        """
        self._keep_offsets = keep_offsets
        self.port = 0
        self._cancel = cancel
        self._secured: Secured | None = None
        self._context: ssl.SSLContext | None = None
        self._claimed: list[int] = []
        self._process: Process | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        """The broker's process. Raises BrokerFailed before `start`."""
        if self._process is None:
            raise BrokerFailed("the broker has not been started")
        return self._process

    def start(self, directory: Path, *, port: int = 0, log: Path | None = None, secured: Secured | None = None) -> None:
        """Starts on the data in `directory`, creating it if needed; returns once the broker answers.

        Port 0 selects a free port. With `secured` the broker authenticates clients by SASL over TLS and enforces ACLs.
        Raises MissingTool without Java or Maven, and BrokerFailed with the end of the log if the broker does not start.
        """
        if "," in str(directory.absolute()):
            raise BrokerFailed(f"Kafka can't keep data in {directory.absolute()}, which has a comma in its path")
        self._secured = secured
        self._context = secured.context() if secured else None
        try:
            # Absolute, because the broker runs in another directory.
            self._start(directory.absolute(), port, (log or directory / "broker.log").absolute())
        except BaseException:
            self.release()
            raise

    def _start(self, directory: Path, port: int, log: Path) -> None:
        if port and answers(f"127.0.0.1:{port}", context=self._context):
            raise BrokerFailed(f"port {port} is taken: another broker answers there")
        java = tools.java(with_maven=jars.missing())
        classpath = f"{jars.resolve(self._cancel)}/*"
        private_files.directory(directory)
        if not (directory / "data" / "meta.properties").exists():
            self._format(java, classpath, directory, log)
        settings = directory / "server.properties"
        self._process = Process(_command(java, classpath, settings), log=log, cwd=directory, environment=_LOCALE)
        for last in (False,) * (_PORT_TRIES - 1) + (True,):
            self._choose_ports(port)
            self._write_settings(settings, self.port, self._claimed[-1], directory / "data")
            begin = log.stat().st_size if log.exists() else 0
            self.process.start()
            try:
                self._wait_until_it_answers()
            except BrokerFailed:
                # Another program may take a port between our choice and the broker's bind.
                if last or _TAKEN not in log.read_bytes()[begin:].decode(errors="replace"):
                    raise
                continue
            return

    def restart(self) -> None:
        """Stops the broker if it runs, and starts it on the same ports and data. Returns once it answers."""
        self.process.stop(grace_s=_STOP_S)
        self.process.start()
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Shuts the broker down cleanly, and kills it after 8 s. Does nothing if it has not started."""
        if self._process is not None:
            self._process.stop(grace_s=_STOP_S)

    def kill(self) -> None:
        """Sends SIGKILL. The broker stays down until `restart`."""
        self.process.kill()

    def release(self) -> None:
        """Stops for good and releases the ports."""
        self.stop()
        ports.release(*self._claimed)
        self._claimed = []

    def _choose_ports(self, port: int) -> None:
        ports.release(*self._claimed)
        self._claimed = [] if port else [ports.free_port()]
        self.port = port or self._claimed[0]
        self._claimed.append(ports.free_port())

    def _wait_until_it_answers(self) -> None:
        process = self.process
        if not wait_for(
            lambda: not process.running or answers(self.bootstrap, context=self._context),
            timeout_s=_START_S,
            cancel=self._cancel,
        ):
            process.kill()
            raise BrokerFailed(f"the broker did not answer within {_START_S:.0f} s:\n{process.tail()}")
        if not process.running:
            # Marks the end as intended: the supervisor does not restart a broker that never answered.
            process.kill()
            raise BrokerFailed(f"the broker ended with code {process.code}:\n{process.tail()}")

    def _format(self, java: str, classpath: str, directory: Path, log: Path) -> None:
        """Formats the data directory in a temporary place and renames it; discards an interrupted attempt."""
        beside = directory / ".format"
        shutil.rmtree(beside, ignore_errors=True)
        private_files.directory(beside)
        settings = beside / "server.properties"
        self._write_settings(settings, 9092, 9093, beside / "data")
        cluster = self._cluster_id()
        users = self._secured.users() if self._secured else ()
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(settings), *users)
        options = (*_QUICK.split(), *_ALWAYS, _logging())
        formatter = Process((java, *options, "-cp", classpath, *tool), log=log, cwd=directory, environment=_LOCALE)
        try:
            formatter.start()
            ended = wait_for(lambda: not formatter.running, timeout_s=_START_S, cancel=self._cancel)
            if not ended or formatter.code != 0:
                raise BrokerFailed(f"the data directory could not be formatted:\n{formatter.tail()}")
            shutil.rmtree(directory / "data", ignore_errors=True)
            (beside / "data").rename(directory / "data")
        finally:
            formatter.kill()
            shutil.rmtree(beside, ignore_errors=True)

    def _cluster_id(self) -> str:
        """The cluster id of a new data directory."""
        return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    def _write_settings(self, path: Path, port: int, controller_port: int, data: Path) -> None:
        template = (_HERE / "server.properties").read_text(encoding="utf-8")
        if not self._keep_offsets:
            lines = template.splitlines(keepends=True)
            template = "".join(line for line in lines if not line.startswith("offsets.retention.minutes="))
        values: dict[str, object] = {"port": port, "controller_port": controller_port, "data": data}
        if self._secured is not None:
            # Kafka uses the last value of a repeated setting.
            template += (_HERE / "secured.properties").read_text(encoding="utf-8")
            values |= self._secured.values(path.parent)
        escaped = {name: escape_property(as_utf8(str(value))) for name, value in values.items()}
        private_files.write(path, string.Template(template).substitute(escaped).encode("ascii"))


def as_utf8(path: str) -> str:
    """A path as a program with a UTF-8 locale reads it, which the broker has whatever the locale of this process."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def escape_property(value: str) -> str:
    """A value for a .properties file, which Java reads as Latin-1 with escapes.

    Characters beyond ASCII become escapes of their UTF-16 code units.
    """
    units = value.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)


def _command(java: str, classpath: str, settings: Path) -> tuple[str, ...]:
    heap = shlex.split(os.environ.get("KAFKA_HEAP_OPTS", "-Xmx512m"))
    quick = shlex.split(os.environ.get("KAFKA_JVM_PERFORMANCE_OPTS", _QUICK))
    return (java, *heap, *quick, *_ALWAYS, _logging(), "-cp", classpath, "kafka.Kafka", str(settings))


def _logging() -> str:
    return f"-Dlog4j2.configurationFile={(_HERE / 'log4j2.properties').as_uri()}"
