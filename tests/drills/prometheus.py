"""A real Prometheus with the configuration and the rules of deploy/observe, in which one minute takes one second.

The scrape interval is 500 ms. Ranges and `for` are divided by 60; a range has at least twelve samples.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from devstack.supervision import ports
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for
from tools.observe.__main__ import OBSERVE
from tools.observe.alert import Scale, rule_file
from tools.observe.rules import GROUPS

SCALE = Scale(divisor=60, interval_ms=500, min_range_ms=6_000)
#: Texts of the configuration and their replacements. Each has to occur.
_FASTER = {
    "scrape_interval: 15s": "scrape_interval: 500ms",
    "scrape_timeout: 10s": "scrape_timeout: 450ms",
    "evaluation_interval: 30s": "evaluation_interval: 500ms",
}
_START_S = 30.0
POLL_INTERVAL_S = 0.2


def binary() -> str | None:
    """The path of Prometheus; None if it is not installed."""
    return shutil.which("prometheus") if shutil.which("promtool") else None


class Prometheus:
    """One server. Targets may be changed at any time."""

    def __init__(self, directory: Path) -> None:
        """Starts nothing yet. `directory` gets configuration, data and log."""
        self._directory = directory
        (directory / "targets").mkdir(parents=True)
        text = (OBSERVE / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
        for usual, faster in _FASTER.items():
            if usual not in text:
                raise ValueError(f"prometheus.yaml has no {usual!r}")
            text = text.replace(usual, faster)
        config = directory / "prometheus.yaml"
        config.write_text(text, encoding="utf-8")
        (directory / "rules.yaml").write_text(rule_file(GROUPS, SCALE), encoding="utf-8")
        self._port = ports.free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        argv = ("prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}")
        listen = f"--web.listen-address=127.0.0.1:{self._port}"
        self._process = Process((*argv, listen, "--log.level=warn"), log=directory / "prometheus.log", cwd=directory)

    def start(self) -> None:
        """Returns once it answers. Raises RuntimeError with the end of its log."""
        self._process.start()
        if not wait_for(self._ready, timeout_s=_START_S):
            raise RuntimeError(f"Prometheus does not answer:\n{self._process.tail()}")

    def stop(self) -> None:
        """Stops it and releases its port."""
        self._process.stop(grace_s=5)
        ports.release(self._port)

    def targets(self, job: str, addresses: Iterable[str]) -> None:
        """Sets the targets of a job: orders, groups, payments or watch."""
        file = self._directory / "targets" / f"{job}.json"
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps([{"targets": list(addresses)}]), encoding="utf-8")
        beside.replace(file)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        found: list[dict[str, Any]] = self._get("/api/v1/query", query=expr)["result"]
        return found

    def firing(self) -> dict[str, dict[str, str]]:
        """Names of the firing alerts, each with the labels of one of them."""
        alerts = self._get("/api/v1/alerts")["alerts"]
        return {one["labels"]["alertname"]: one["labels"] for one in alerts if one["state"] == "firing"}

    def _get(self, path: str, **arguments: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Observer:
    """A thread that follows the firing alerts, with the time of each change."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._lock = threading.Lock()
        #: Name -> labels, of the alerts that fire now.
        self._now: dict[str, dict[str, str]] = {}
        #: Name -> monotonic time since which it fires, or since which it does not.
        self._since: dict[str, float] = {}
        self._ever: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join()

    @property
    def fired(self) -> set[str]:
        """All alerts that have fired."""
        with self._lock:
            return set(self._ever)

    def firing(self) -> Mapping[str, dict[str, str]]:
        """The alerts that fire now, each with the labels of one of them."""
        with self._lock:
            return dict(self._now)

    def wait_fired(self, *names: str, timeout_s: float) -> bool:
        """Waits until each of these alerts fires or has fired since the call. Returns whether it did."""
        began_s = time.monotonic()

        def seen(name: str) -> bool:
            return name in self.firing() or self.since(name) > began_s

        return wait_for(lambda: all(map(seen, names)), timeout_s=timeout_s, every_s=POLL_INTERVAL_S)

    def wait_ended(self, *names: str, timeout_s: float) -> bool:
        """Waits until none of these alerts fires. Returns whether it did."""
        return wait_for(lambda: not self.firing().keys() & set(names), timeout_s=timeout_s, every_s=POLL_INTERVAL_S)

    def since(self, name: str) -> float:
        """Monotonic time of an alert's last change; 0 if it has never fired."""
        with self._lock:
            return self._since.get(name, 0.0)

    def _run(self) -> None:
        while not self._stopped.wait(POLL_INTERVAL_S):
            try:
                now = self._prometheus.firing()
            except (OSError, ValueError):
                continue
            at_s = time.monotonic()
            with self._lock:
                for name in now.keys() ^ self._now.keys():
                    self._since[name] = at_s
                self._now = now
                self._ever |= now.keys()
