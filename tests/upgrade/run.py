"""`make upgrade-test`: an upgrade and the way back on one running stack, with the wheels of two versions.

Two processes of each service run. Evenings of orders are played while one process of each service after the other is
replaced, so that both versions decide side by side: first from the older version to this tree, then back. If the older
version does not know the newest payment rules, this tree writes those of the first version meanwhile, as the changelog
asks for, and begins with the newest after the last older process has ended. Before the first new process the gate runs:
`groupbuy-ops replay` of the new version over the topics that the old one has written. A third build, with another
rule, must not pass the gate.

The last line is one JSON object. Exits with 1 if a claim fails, and with 0 and `skipped` if the clone has no history.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import re
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from chassis.lifecycle.settings import ServiceSettings
from chassis.lifecycle.variables import variables
from devstack.errors import DevstackError
from devstack.product import PRODUCT, PROVIDER, SERVICES, Child, Layout, Plan, replica_name
from devstack.stack import Stack
from ops.audit.run import audit, wait_quiet
from ops.log.reader import Reader
from services.groups.settings import GroupsSettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from shared_kernel.topics import PAYMENT_LOG
from tests import evening
from tests.upgrade.versions import (
    OWN_IMPORTS,
    NoOlderVersion,
    Version,
    VersionFailed,
    altered,
    install_commit,
    install_tree,
    older_commit,
)

ORDERS = 120
PARTITIONS = 8
QUIET_S = 150.0
#: The deciders, whose partitions both versions have to own at the same time.
DECIDERS = {"groups": "groupbuy.groups.decider", "payments": "groupbuy.payments.decider"}
#: A rule of the third build: each capture is one minor unit too high.
WRONG_RULE = ("services/groups/domain/pricing.py", "- discount) * quantity", "- discount) * quantity + 1")
#: The order of docs/operating/upgrading.md.
ROLL_ORDER = ("payments", "groups", "orders")
SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "orders": OrdersSettings,
    "groups": GroupsSettings,
    "payments": PaymentsSettings,
}
#: The setting by which a new version writes what an older one reads.
RULES_VERSION = "GROUPBUY_PAYMENTS_RULES_VERSION"
#: Runs a command with the settings of a file, as a unit of systemd does with an EnvironmentFile.
WITH_SETTINGS = ("/bin/sh", "-c", '. "$0"; exec "$@"')
Say = Callable[[str], None]


class Releases:
    """The version and the settings of each process: a link and a file that a restart follows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self._read: dict[tuple[Path, str], frozenset[str]] = {}

    def use(self, process: str, version: Version) -> None:
        """The process runs this version from its next start."""
        link = self._directory / process
        link.unlink(missing_ok=True)
        link.symlink_to(version.environment)
        service = process.partition("-")[0]
        known = self._known(version, f"services.{service}")
        lines = [f"export {name}={value}" for name, value in version.variables.items() if name in known]
        # A variable that a version does not know ends its start.
        of_stack = {one.name for one in variables(SETTINGS[service])}
        lines += [f"unset {name}" for name in sorted(of_stack - known)]
        self._settings(process).write_text("\n".join([*lines, ""]), encoding="utf-8")

    def _known(self, version: Version, module: str) -> frozenset[str]:
        key = version.environment, module
        if key not in self._read:
            self._read[key] = version.settings(module)
        return self._read[key]

    def _settings(self, process: str) -> Path:
        return self._directory / f"{process}.env"

    def plan(self) -> Plan:
        """The product with the services of these links. The provider is that of this tree."""

        def of_link(child: Child) -> Child:
            python = str(self._directory / child.name / "bin" / "python")
            environment = {**child.environment, **OWN_IMPORTS}
            command = (*WITH_SETTINGS, str(self._settings(child.name)), python, *child.argv[1:])
            return dataclasses.replace(child, argv=command, environment=environment)

        def replica(service: str, number: int) -> Callable[[Layout], Child]:
            assert PRODUCT.replica is not None
            make = PRODUCT.replica(service, number)
            return lambda layout: of_link(make(layout))

        return dataclasses.replace(PRODUCT, then={name: replica(name, 0) for name in SERVICES}, replica=replica)


class Upgrade:
    """One stack, and the versions of its processes."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._say = say
        self.releases = Releases(directory / "releases")
        self.processes = {(service, n): replica_name(service, n) for service in SERVICES for n in (0, 1)}
        self.stack = Stack(
            directory / "run",
            kafka=None,
            partitions=PARTITIONS,
            plan=self.releases.plan(),
            replicas=dict.fromkeys(SERVICES, 2),
        )
        #: Partitions that each version has owned while both ran, by decider.
        self.side_by_side: list[dict[str, dict[str, int]]] = []
        self._versions: dict[str, str] = {}
        self.acknowledged: set[tuple[str, str]] = set()
        self.orders = 0

    def use(self, process: str, version: Version) -> None:
        """The process runs this version from its next start."""
        self.releases.use(process, version)
        self._versions[process] = version.name

    def replace(self, number: int, version: Version) -> None:
        """Replaces process `number` of each service, one after the other. Returns when all serve."""
        for service in ROLL_ORDER:
            name = self.processes[service, number]
            self.stack.stop_service(name)
            self.use(name, version)
            self.stack.start_service(name)
            self.stack.wait_serving(name)
        self._say(f"process {number} of each service runs {version.name}")

    def play(self, orders: int, seed: int, in_the_middle: Callable[[], None]) -> None:
        """An evening, with something in the middle of it."""

        async def play() -> evening.Played:
            endpoints = self.stack.endpoints
            async with (
                grpc.aio.insecure_channel(endpoints["orders"]) as shop,
                grpc.aio.insecure_channel(endpoints["groups"]) as merchant,
            ):
                return await evening.play(shop, merchant, orders, seed, in_the_middle)

        played = asyncio.run(play())
        self.acknowledged |= played.acknowledged
        self.orders += played.orders

    def note_owners(self) -> None:
        """Notes how many partitions each version owns. Called while both run."""
        self.side_by_side.append(
            {
                decider: {
                    self._versions[name]: self._owned(name, decider)
                    for (of, _), name in self.processes.items()
                    if of == service
                }
                for service, decider in DECIDERS.items()
            }
        )

    def _owned(self, process: str, group: str) -> int:
        url = f"http://{self.stack.endpoints[f'{process}_metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf'groupbuy_partitions_owned{{[^}}]*"{re.escape(group)}"[^}}]*}} ([0-9.]+)', text)
        return int(float(found.group(1))) if found else 0

    def roll(self, before: Version, after: Version, orders: int, seed: int) -> dict[str, Any]:
        """From one version to another: one process of each service in the middle of an evening, an evening on both, the
        rest in the middle of a third one. Returns what the audit and the replays of both found."""
        self.play(orders, seed, lambda: self.replace(1, after))
        self.note_owners()
        self.play(orders, seed + 1, self.note_owners)
        self.play(orders, seed + 2, lambda: self.replace(0, after))
        checked = self._checked()
        self._say(f"audit: {json.dumps(checked)}")
        replays = [replayed(one, self.stack.kafka) for one in (before, after)]
        newest = asyncio.run(groups_of_newest_rules(self.stack.kafka))
        return {"from": before.name, "to": after.name, **checked, "newest_rules": newest, "replays": replays}

    def _checked(self) -> dict[str, Any]:
        """The audit of everything that was played so far, when nothing is pending any more."""
        kafka = self.stack.kafka
        asyncio.run(wait_quiet(kafka, deadline_s=QUIET_S))
        provider = self.stack.endpoints[PROVIDER]
        report = asyncio.run(audit(kafka, provider, settled=True, acknowledged=self.acknowledged))
        figures = report.figures()
        kept = ("orders", "violations", "books_equal", "duplicates")
        return {"clean": report.clean, **{name: figures[name] for name in kept if name in figures}}


async def groups_of_newest_rules(kafka: str) -> int:
    """Groups whose payments have begun with a version of the rules that the older build does not know."""
    found: set[bytes] = set()

    def take(_topic: str, records: Iterable[Any]) -> None:
        for record in records:
            events = PaymentDecision.FromString(record.value).events
            if any(event.WhichOneof("body") == "rules_selected" for event in events):
                found.add(record.key)

    async with Reader(kafka, [PAYMENT_LOG.name]) as reader:
        await reader.read_to_end(take)
    return len(found)


def replayed(version: Version, kafka: str) -> dict[str, Any]:
    """The gate: what `groupbuy-ops replay` of a version finds in the topics, with its exit code."""
    done = version.ops("replay", "--kafka", kafka, "--json")
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise VersionFailed(f"replay of {version.name} ended with {done.returncode}: {done.stderr[-1000:]}")
    figures = json.loads(lines[-1])
    return {
        "version": version.name,
        "code": done.returncode,
        **{key: figures[key] for key in ("decisions", "differences")},
    }


def upgrade(directory: Path, old: Version, new: Version, orders: int, say: Say) -> dict[str, Any]:
    """Both directions on one stack. Returns the figures."""
    wrong = altered(new, directory / "wrong", *WRONG_RULE)
    run = Upgrade(directory, say)
    for process in run.processes.values():
        run.use(process, old)
    with run.stack:
        kafka = run.stack.kafka
        say(f"half an evening of {old.name} alone")
        run.play(orders // 2, 1, lambda: None)
        asyncio.run(wait_quiet(kafka, deadline_s=QUIET_S))
        gates = [replayed(one, kafka) for one in (old, new, wrong)]
        say(f"gates: {json.dumps(gates)}")
        made = new.ops("topics", "create", "--kafka", kafka, "--replication", "1")
        found: dict[str, Any] = {"gates": gates, "topics_created": made.returncode == 0, "directions": []}
        running = old
        planned = steps(old, new)
        found["staged"] = len(planned) > 2
        for number, (before, after) in enumerate(planned):
            if before is not running:
                run.replace(1, before)
                run.replace(0, before)
            say(f"from {before.name} to {after.name}")
            found["directions"].append(run.roll(before, after, orders, 10 * number + 10))
            running = after
        found |= {"orders": run.orders, "side_by_side": run.side_by_side}
        return found


def steps(old: Version, new: Version) -> list[tuple[Version, Version]]:
    """Forward and back; then, if the older version does not know the newest rules, from the first to the newest."""
    if RULES_VERSION in old.settings("services.payments"):
        return [(old, new), (new, old)]
    first = dataclasses.replace(new, name=f"{new.name} with the first rules", variables={RULES_VERSION: "1"})
    return [(old, first), (first, old), (first, new)]


def good(found: dict[str, Any]) -> bool:
    """Whether every claim holds."""
    old, new, wrong = found["gates"]
    replays = [old, new, *(one for direction in found["directions"] for one in direction["replays"])]
    return bool(
        found["topics_created"]
        and all(one["code"] == 0 and not one["differences"] and one["decisions"] for one in replays)
        and wrong["code"] == 1
        and wrong["differences"]
        and all(one["clean"] and not one["violations"] and one["books_equal"] for one in found["directions"])
        # No older process has met the newest rules, and they were used after the last one.
        and all(not one["newest_rules"] for one in found["directions"][:-1] if found["staged"])
        and found["directions"][-1]["newest_rules"]
        and found["side_by_side"]
        and all(
            len(owners) == 2 and min(owners.values()) > 0 and sum(owners.values()) == PARTITIONS
            for moment in found["side_by_side"]
            for owners in moment.values()
        )
    )


def main() -> int:
    """Runs the test. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--older", default="", help="commit or tag of the older version")
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders of each of the evenings")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="groupbuy-upgrade-"))
    try:
        commit = older_commit(given.older)
        say(f"building the wheels of {commit[:8]} and of this tree")
        old, new = install_commit(commit, directory / "old"), install_tree(directory / "new")
        found = upgrade(directory, old, new, given.orders, say)
    except NoOlderVersion as reason:
        print(json.dumps({"skipped": str(reason)}))
        return 0
    except (VersionFailed, DevstackError, evening.EveningFailed, TimeoutError) as error:
        say(str(error))
        print(json.dumps({"failed": str(error).splitlines()[0]}))
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(found))
    return 0 if good(found) else 1


if __name__ == "__main__":
    sys.exit(main())
