"""Whether a process is started and ready, and why not. Written on the event loop, read by probes on another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric as Family

from chassis.telemetry.metrics import metrics_of_services as m
from chassis.telemetry.metrics.metric_families import family

#: Why a check fails, for people.
_REASONS = {
    "broker": "the broker does not answer",
    "processors": "the partitions of this process are not recovered",
    "publisher": "the producer is not connected",
}


class HealthState:
    """The state that the runner keeps up to date."""

    def __init__(self) -> None:
        #: The conditions of serving.
        self.checks = dict.fromkeys(_REASONS, False)
        self.serving = False
        #: Whether the process has served once.
        self.started = False
        self.stopping = False
        #: Number of quarantined partitions.
        self.quarantined = 0

    def update(self, **checks: bool) -> bool:
        """Takes results of checks; the others keep theirs. Returns whether the process can serve."""
        self.checks = self.checks | checks
        self.serving = all(self.checks.values()) and not self.stopping
        self.started = self.started or self.serving
        return self.serving

    def stop(self) -> None:
        """The process drains from here on."""
        self.serving, self.stopping = False, True

    @property
    def problems(self) -> list[str]:
        """Why the process does not serve; empty while it does."""
        if self.stopping:
            return ["the process is stopping"]
        return [_REASONS[name] for name, passed in self.checks.items() if not passed]


def health_metrics(health: HealthState) -> Callable[[], Iterator[Family]]:
    """The collector of the state."""

    def collect() -> Iterator[Family]:
        yield family(m.SERVING, health.serving)
        checks = health.checks | {"partitions": not health.quarantined}
        yield family(m.CHECK, {(name,): passed for name, passed in checks.items()})

    return collect
