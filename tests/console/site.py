"""The stack with its console, and what the checks ask of it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from devstack.product import CONSOLE, SHARE, WITH_CONSOLE
from devstack.stack import Stack
from devstack.supervision.waiting import wait_for

#: A payment method that the provider declines.
DECLINED = "card_declined"
OPERATOR, PASSWORD = "ann", "correct horse"
_COMMAND_S = 120.0


class Answer(NamedTuple):
    """The response to a GET."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Site:
    """The system under test."""

    def __init__(self, directory: Path) -> None:
        """Starts nothing yet. `directory` gets all data and logs."""
        self.directory = directory
        self.stack = Stack(
            directory / "run",
            plan=WITH_CONSOLE,
            environment={
                "provider": {"GROUPBUY_SIMPROVIDER_DECLINE_METHODS": json.dumps([DECLINED])},
                CONSOLE: {"GROUPBUY_CONSOLE_STATEMENT_EVERY_SECONDS": "5"},
            },
        )

    @property
    def console(self) -> str:
        """Address of the pages for operators."""
        return f"http://{self.stack.endpoints[CONSOLE]}"

    @property
    def share(self) -> str:
        """Address of the public listener."""
        return f"http://{self.stack.endpoints[SHARE]}"

    def get(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """The response of any status. Raises OSError without one."""
        request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def wait_console(self) -> None:
        """Returns once the console shows what the log has."""

        def ready() -> bool:
            try:
                return "reading the logs" not in self.get(f"{self.console}/").text
            except (OSError, http.client.HTTPException):
                return False

        if not wait_for(ready, timeout_s=90, every_s=0.3):
            raise AssertionError(f"the console is not ready:\n{self.stack.log(CONSOLE)[-3000:]}")

    def ops(self, *arguments: str) -> str:
        """Standard output of a command of groupbuy-ops."""
        environment = {**os.environ, "KAFKA": self.stack.kafka, "PROVIDER": self.stack.endpoints["provider"]}
        command = [sys.executable, "-m", "ops.main", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def audit(self) -> dict[str, Any]:
        """The figures of an audit."""
        found: dict[str, Any] = json.loads(self.ops("audit", "--json").splitlines()[-1])
        return found

    def memory_mb(self, pid: int) -> float:
        """Resident memory of a process, in MB."""
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 1024
