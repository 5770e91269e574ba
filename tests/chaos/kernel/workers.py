"""The workers of one run and their supervisor, which kills, freezes, doubles and restarts them.

The reason why a worker ended itself is kept: a run in which a worker hit an invariant violation is not exact, even if
its log is.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eventlog.runtime.abort import EXIT_CODE
from tests.chaos.kernel.collector import Collector
from tests.chaos.kernel.launch import WorkerProcess

#: Reasons for an end that kills, freezes and broker outages may cause: no broker, or another process of the same name.
EXPECTED_REASONS = (
    "another process has taken this instance's name",
    "the stream processor did not start",
    "the stream processor crashed",
    "the consumer's thread failed",
    "the consumer failed",
    "offsets can't be committed",
    "ended with code 1: aiokafka.errors.KafkaConnectionError",
)
#: In the log of a worker with a call on a wrong thread; see eventlog/faust/thread_checks.py.
WRONG_THREAD = "wrong thread"
_STOPPED = re.compile(rf"^stopping with code {EXIT_CODE}: (.*)$", re.MULTILINE)
#: Lines of a log that explain a violation.
_LAST_LINES = 40


@dataclass(eq=False)
class Worker:
    """One process."""

    name: str
    process: WorkerProcess
    log: Path
    state: Path
    frozen: bool = False
    #: Reads its output, if that goes through a pipe.
    collector: Collector | None = None

    @property
    def stopped_before_listening(self) -> bool:
        """Whether SIGTERM arrived before Python had installed its handler."""
        return self.process.code == -signal.SIGTERM and not self.log.stat().st_size


class Workers:
    """All worker processes of a run. Each name has one current worker, and perhaps others that it has displaced."""

    def __init__(
        self,
        kafka: str,
        tag: str,
        directory: Path,
        flags: Sequence[str],
        environment: Mapping[str, str],
        *,
        collected: bool = False,
    ) -> None:
        """`collected`: the output of each goes through a pipe and a collector."""
        self.tag = tag
        self._kafka, self._directory, self._flags = kafka, directory, flags
        self._environment = environment
        self._collected = collected
        directory.mkdir(parents=True, exist_ok=True)
        self._current: dict[str, Worker] = {}
        self._all: list[Worker] = []
        self._killed: set[Worker] = set()

    def start(self, name: str) -> Worker:
        """Starts a worker as the current one of its name. One that still runs has the same instance id."""
        state = self._free_directory(name)
        arguments = ["--kafka", self._kafka, "--tag", self.tag, "--instance", name, "--state-dir", str(state)]
        log = self._directory / f"{name}.{len(self._all):03d}.log"
        log.touch()
        collector = Collector(log) if self._collected else None
        output = collector.pipe if collector is not None else log
        process = WorkerProcess([*arguments, *self._flags], output, self._environment)
        worker = self._current[name] = Worker(name, process, log, state, collector=collector)
        self._all.append(worker)
        return worker

    def _free_directory(self, name: str) -> Path:
        # A displaced process keeps its state directory locked until it ends.
        taken = {worker.state for worker in self._all if worker.process.code is None}
        return next(path for n in range(len(taken) + 1) if (path := self._directory / f"{name}.{n}") not in taken)

    def restart_ended(self) -> None:
        """Restarts current workers that have ended."""
        for name, worker in list(self._current.items()):
            if worker.process.code is not None:
                self.start(name)

    def awake(self) -> list[Worker]:
        """Current workers that run and are not frozen."""
        return [worker for worker in self._current.values() if not worker.frozen and worker.process.code is None]

    def kill(self, worker: Worker) -> None:
        """Sends SIGKILL, and starts another one at once."""
        self._killed.add(worker)
        worker.process.kill()
        self.start(worker.name)

    def freeze(self, worker: Worker) -> None:
        """Sends SIGSTOP."""
        worker.frozen = True
        worker.process.send_signal(signal.SIGSTOP)

    def wake(self, worker: Worker) -> bool:
        """Sends SIGCONT. Returns whether the process still exists."""
        worker.frozen = False
        worker.process.send_signal(signal.SIGCONT)
        return worker.process.code is None

    def displaced(self) -> list[Worker]:
        """Running workers that are not the current ones of their names."""
        return [one for one in self._all if one.process.code is None and self._current[one.name] is not one]

    def stop(self) -> dict[str, int]:
        """Sends SIGTERM to all, and returns how many ended with each exit code."""
        running = [worker for worker in self._all if worker.process.code is None]
        for worker in running:
            self.wake(worker)
            worker.process.send_signal(signal.SIGTERM)
        for worker in running:
            if not worker.process.wait(40):
                worker.process.kill()
        for worker in self._all:
            if worker.collector is not None:
                worker.collector.close()
        return dict(Counter(str(worker.process.code) for worker in running if not worker.stopped_before_listening))

    def count(self, text: str) -> int:
        """Number of log lines of all workers with a text."""
        return sum(text in line for one in self._all for line in one.log.read_text(errors="replace").splitlines())

    def reasons(self) -> Counter[str]:
        """Why workers ended themselves, without the context of each; and unexpected exit codes."""
        found: Counter[str] = Counter()
        for worker in self._all:
            code = worker.process.code
            reasons = _STOPPED.findall(worker.log.read_text(errors="replace"))
            found.update(_without_context(one) for one in reasons)
            unexpected = code not in {None, 0, EXIT_CODE} and not worker.stopped_before_listening
            if not reasons and worker not in self._killed and unexpected:
                found[f"ended with code {code}: {_last_line(worker.log)}"] += 1
        return found

    def violations(self) -> list[str]:
        """The last messages of the workers that ended at an invariant violation, with their tracebacks."""
        found = []
        for worker in self._all:
            text = worker.log.read_text(errors="replace")
            if any(not _without_context(one).startswith(EXPECTED_REASONS) for one in _STOPPED.findall(text)):
                found.append(f"{worker.name}: " + "\n".join(text.splitlines()[-_LAST_LINES:]))
        return found


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _without_context(reason: str) -> str:
    return re.sub(r" \w+=.*$", "", reason)


def count_violations(reasons: Counter[str]) -> int:
    """Number of workers that ended at an invariant violation."""
    return sum(count for reason, count in reasons.items() if not reason.startswith(EXPECTED_REASONS))
