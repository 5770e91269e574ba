"""The stack with its console, and what the checks ask of it over HTTP."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from groupbuy.groups.v1.decisions_pb2 import GroupDecision

from console.web import passwords
from devstack.product import CONSOLE, SHARE, WITH_CONSOLE, Plan
from devstack.stack import Stack
from devstack.supervision import ports
from devstack.supervision.process import Process
from devstack.supervision.waiting import wait_for
from groupbuy_settlement import command
from ops.log.reader import Reader
from shared_kernel.topics import GROUP_LOG

#: A payment method that the provider declines.
DECLINED = "card_declined"
OPERATOR, PASSWORD = "ann", "correct horse"
_COMMAND_S = 120.0


def credentials(name: str = OPERATOR, password: str = PASSWORD) -> dict[str, str]:
    """The header of a name and a password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


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

    def __init__(self, directory: Path, plan: Plan = WITH_CONSOLE) -> None:
        """Starts nothing yet. `directory` gets all data and logs."""
        self.directory = directory
        self.stack = Stack(
            directory / "run",
            plan=plan,
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

    def wait_console(self, address: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Returns once the console, by default that of the stack, shows what the log has."""

        def ready() -> bool:
            try:
                answer = self.get(f"{address or self.console}/", headers=headers)
            except (OSError, http.client.HTTPException):
                return False
            return answer.status == 200 and "reading the logs" not in answer.text

        if not wait_for(ready, timeout_s=90, every_s=0.3):
            raise AssertionError(f"the console is not ready:\n{self.stack.log(CONSOLE)[-3000:]}")

    @contextmanager
    def desk(self) -> Iterator[str]:
        """A second console on the same stack, where OPERATOR needs PASSWORD. Returns its address."""
        port = ports.free_port()
        address, state = f"127.0.0.1:{port}", self.directory / "desk"
        state.mkdir()
        (state / "operators").write_text(f"{passwords.line(OPERATOR, PASSWORD)}\n", encoding="utf-8")
        settings = {
            "KAFKA": self.stack.kafka,
            "LISTEN": address,
            "GROUPS": self.stack.endpoints["groups"],
            "PAYMENTS": self.stack.endpoints["payments"],
            "OPERATORS_FILE": str(state / "operators"),
            "STATE_DIR": str(state / "state"),
            "INSECURE": "true",
        }
        own = {f"GROUPBUY_CONSOLE_{name}": value for name, value in settings.items()}
        process = Process(command("console"), log=state / "log", cwd=state, environment=own)
        process.start()
        try:
            self.wait_console(f"http://{address}", credentials())
            yield f"http://{address}"
        finally:
            process.stop(grace_s=5.0)
            ports.release(port)

    def forming_in_log(self, campaign: str) -> dict[str, int]:
        """Members whose money is held, by forming group of a campaign, as the log of decisions has them."""
        found: dict[str, int] = {}

        def take(_: str, records: Iterable[Any]) -> None:
            for record in records:
                key = record.key.decode()
                for event in GroupDecision.FromString(record.value).events:
                    match event.WhichOneof("body"):
                        case "opened" if event.opened.terms.campaign == campaign.removeprefix("campaigns/"):
                            found[key] = 0
                        case "member_confirmed" if key in found:
                            found[key] = event.member_confirmed.members
                        case "completed" | "expired" | "cancelled":
                            found.pop(key, None)

        async def read() -> None:
            async with Reader(self.stack.kafka, [GROUP_LOG.name]) as reader:
                await reader.read_to_end(take)

        # On a thread of its own: Playwright's event loop runs on this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, read()).result()
        return found

    def errors(self, name: str) -> int:
        """The number of errors and warnings in the log of a process."""
        return len(re.findall(r'"level": ?"(?:warning|error|critical)"', self.stack.log(name)))

    def ops(self, *arguments: str) -> str:
        """Standard output of a command of groupbuy-ops."""
        environment = {**os.environ, "KAFKA": self.stack.kafka, "PROVIDER": self.stack.endpoints["provider"]}
        words = [sys.executable, "-m", "ops.main", *arguments]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
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
