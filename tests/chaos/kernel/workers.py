"""Workers of one run, and their supervisor: they are killed, frozen, doubled, and started again.

What a worker said when it ended itself is kept, since a run in which one stopped at something impossible is not exact,
whatever its log looks like after the restart.
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
from tests.chaos.kernel.launch import Launched

#: Reasons to stop that kills, freezes and broker outages may give: the broker is away, or another owner has come.
HARMLESS = (
    "another process has taken this instance's name",
    "the stream processor did not start",
    "the stream processor crashed",
    "the consumer's thread failed",
    "the consumer failed",
    "offsets can't be committed",
    "ended with code 1: aiokafka.errors.KafkaConnectionError",
)
#: What a worker says that meets a call on a wrong thread, see eventlog/faust/thread_checks.py.
WRONG_THREAD = "wrong thread"
_STOPPED = re.compile(rf"^stopping with code {EXIT_CODE}: (.*)$", re.MULTILINE)


@dataclass(eq=False)
class Worker:
    """One process."""

    name: str
    process: Launched
    log: Path
    state: Path
    frozen: bool = False
    #: Reads what it prints, where that goes through a pipe.
    collector: Collector | None = None

    @property
    def unheard(self) -> bool:
        """Whether it was told to stop before Python had got as far as to listen."""
        return self.process.code == -signal.SIGTERM and not self.log.stat().st_size


class Workers:
    """All processes of a run. Each name has one current worker, and perhaps others that have lost their place."""

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
        """`collected`: their output goes through a pipe and a collector each."""
        self.tag = tag
        self._kafka, self._directory, self._flags = kafka, directory, flags
        self._environment = environment
        self._collected = collected
        directory.mkdir(parents=True, exist_ok=True)
        self._current: dict[str, Worker] = {}
        self._all: list[Worker] = []
        self._killed: set[Worker] = set()

    def start(self, name: str) -> Worker:
        """Starts a worker in the place of whoever has the name; beside one that lives, under the same instance id."""
        state = self._free_directory(name)
        arguments = ["--kafka", self._kafka, "--tag", self.tag, "--instance", name, "--state-dir", str(state)]
        log = self._directory / f"{name}.{len(self._all):03d}.log"
        log.touch()
        collector = Collector(log) if self._collected else None
        output = collector.pipe if collector is not None else log
        process = Launched([*arguments, *self._flags], output, self._environment)
        worker = self._current[name] = Worker(name, process, log, state, collector=collector)
        self._all.append(worker)
        return worker

    def _free_directory(self, name: str) -> Path:
        # Only one process can use a state directory, and one that lost its name keeps its own as long as it lives.
        taken = {worker.state for worker in self._all if worker.process.code is None}
        return next(path for n in range(len(taken) + 1) if (path := self._directory / f"{name}.{n}") not in taken)

    def restart_ended(self) -> None:
        """What a supervisor does."""
        for name, worker in list(self._current.items()):
            if worker.process.code is not None:
                self.start(name)

    def awake(self) -> list[Worker]:
        """Those that have their names and are not frozen."""
        return [worker for worker in self._current.values() if not worker.frozen and worker.process.code is None]

    def kill(self, worker: Worker) -> None:
        """SIGKILL, and a new one at once."""
        self._killed.add(worker)
        worker.process.kill()
        self.start(worker.name)

    def freeze(self, worker: Worker) -> None:
        """SIGSTOP."""
        worker.frozen = True
        worker.process.send_signal(signal.SIGSTOP)

    def wake(self, worker: Worker) -> bool:
        """SIGCONT. Whether it was there to wake."""
        worker.frozen = False
        worker.process.send_signal(signal.SIGCONT)
        return worker.process.code is None

    def displaced(self) -> list[Worker]:
        """Those that live, but whose names others have taken."""
        return [one for one in self._all if one.process.code is None and self._current[one.name] is not one]

    def stop(self) -> dict[str, int]:
        """Tells all to stop; returns the exit codes of those that had begun and not ended, and how often each came."""
        told = [worker for worker in self._all if worker.process.code is None]
        for worker in told:
            self.wake(worker)
            worker.process.send_signal(signal.SIGTERM)
        for worker in told:
            if not worker.process.wait(40):
                worker.process.kill()
        for worker in self._all:
            if worker.collector is not None:
                worker.collector.go()
        return dict(Counter(str(worker.process.code) for worker in told if not worker.unheard))

    def count(self, text: str) -> int:
        """Lines with a text, of all workers."""
        return sum(text in line for one in self._all for line in one.log.read_text(errors="replace").splitlines())

    def reasons(self) -> Counter[str]:
        """Why workers stopped themselves, without where; and exit codes nobody gave them."""
        found: Counter[str] = Counter()
        for worker in self._all:
            code = worker.process.code
            said = _STOPPED.findall(worker.log.read_text(errors="replace"))
            found.update(_without_place(one) for one in said)
            if not said and worker not in self._killed and code not in {None, 0, EXIT_CODE} and not worker.unheard:
                found[f"ended with code {code}: {_last_line(worker.log)}"] += 1
        return found


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _without_place(reason: str) -> str:
    return re.sub(r" \w+=.*$", "", reason)


def impossible(reasons: Counter[str]) -> int:
    """How many workers stopped at what exactness rules out."""
    return sum(count for reason, count in reasons.items() if not reason.startswith(HARMLESS))
