"""Everything that the drills share: the local stack, watch, Prometheus, traffic, and the commands of runbooks."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.product import PRODUCT, PROVIDER, SERVICES, Child, Layout
from devstack.stack import Stack
from devstack.supervision.waiting import wait_for
from groupbuy_testing.running import RunningStack
from tests.drills.prometheus import Observer, Prometheus
from tests.drills.traffic import Traffic
from tests.drills.watch import Watch
from tests.integration.shop import Shop

ROOT = Path(__file__).parents[2]
#: Unary calls in flight of orders, so that a drill overloads it with few. Traffic has at most a dozen.
MAX_CALLS = 60
COMMAND_S = 60.0


def _faulty_groups(layout: Layout) -> Child:
    """The groups service as the stack starts it, in the module that can plant faults."""
    child = PRODUCT.then["groups"](layout)
    environment = {**child.environment, "PYTHONPATH": str(ROOT)}
    return dataclasses.replace(
        child, argv=(sys.executable, "-m", "tests.drills.faulty_groups"), environment=environment
    )


PLAN = dataclasses.replace(PRODUCT, then={**PRODUCT.then, "groups": _faulty_groups})


class Site:
    """The system under drill. Use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        """`directory` gets all data and logs."""
        self.directory = directory
        environment = {"orders": {"GROUPBUY_ORDERS_MAX_CALLS": str(MAX_CALLS)}}
        self.stack = Stack(directory / "run", plan=PLAN, environment=environment)
        self.prometheus = Prometheus(directory / "prometheus")
        self.observer = Observer(self.prometheus)
        self.roots = directory / "roots.jsonl"
        bin_dir = directory / "bin"
        bin_dir.mkdir()
        tool = bin_dir / "groupbuy-ops"
        python = shlex.quote(sys.executable)
        tool.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {python} -m ops.main "$@"\n')
        tool.chmod(0o755)
        self._path = f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"

    def __enter__(self) -> Self:
        self.stack.start()
        try:
            self.running = RunningStack(self.stack)
            self.shop = Shop(self.running)
            self.shop.wait_all(self.shop.full_group(self.shop.campaign(capacity=2, tiers=((2, 8_900),)), 2), "SETTLED")
            self.run("groupbuy-ops ledger roots --out $ROOTS")
            provider = self.stack.endpoints[PROVIDER]
            self.watch = Watch(self.stack.kafka, self.directory / "watch", provider=provider, roots=self.roots)
            self.watch.start()
            for service in SERVICES:
                self.prometheus.targets(service, [self.metrics(service)])
            self.prometheus.targets("watch", [self.watch.address])
            self.prometheus.start()
            # Prometheus takes 5 s to discover targets, which is not scaled; until then ServiceGone is right.
            assert wait_for(self._all_up, timeout_s=30), self.prometheus.query("up")
            self.observer.start()
            self.traffic = Traffic(self.shop)
            self.traffic.start()
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.traffic.stop()
        self.observer.stop()
        self.prometheus.stop()
        self.watch.release()
        self.running.close()
        self.stack.stop()

    def _all_up(self) -> bool:
        up = [float(one["value"][1]) for one in self.prometheus.query("up")]
        return up == [1.0] * (len(SERVICES) + 1) and not self.prometheus.firing()

    def metrics(self, service: str) -> str:
        """host:port of a service's metrics."""
        return self.stack.endpoints[f"{service}_metrics"]

    def run(self, command: str, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Runs a shell command with the variables of runbooks. Returns its exit code and output.

        Code 124 means that it did not end in time.
        """
        environment = {
            **os.environ,
            "PATH": self._path,
            "KAFKA": self.stack.kafka,
            "PROVIDER": self.stack.endpoints[PROVIDER],
            "PAYMENTS_AT": self.stack.endpoints["payments"],
            "PROMETHEUS": self.prometheus.url,
            "ROOTS": str(self.roots),
            "WATCH": self.watch.address if hasattr(self, "watch") else "",
            **(variables or {}),
        }
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                env=environment,
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_S,
                check=False,
                text=True,
            )
        except subprocess.TimeoutExpired as error:
            return 124, str(error)
        return done.returncode, done.stdout
