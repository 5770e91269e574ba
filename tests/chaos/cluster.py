"""Two brokers, of which the second can be down: its partitions then have no leader, while the first still answers.

Each partition has one replica, so no other broker takes over. The first broker is the controller and holds the
committed offsets. The offsets topic is created while it is alone, and the topics of a test afterwards.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.kafka.broker import Broker
from tests.waiting import moment, wait_for_async

PATIENCE_S = 30.0


class _SecondBroker(Broker):
    """A broker that joins the cluster of another one."""

    def __init__(self, first: Broker, directory: Path) -> None:
        super().__init__()
        self._first = first
        self._first_directory = directory

    def _cluster_id(self) -> str:
        lines = (self._first_directory / "data" / "meta.properties").read_text(encoding="utf-8").splitlines()
        return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))

    def _write_settings(self, path: Path, port: int, controller_port: int, data: Path) -> None:
        super()._write_settings(path, port, controller_port, data)
        # If a setting is given twice, Kafka uses the second value.
        with path.open("a", encoding="utf-8") as settings:
            settings.write(
                "\nprocess.roles=broker\nnode.id=2\n"
                f"controller.quorum.voters=1@127.0.0.1:{self._first._claimed[-1]}\n"
                f"listeners=PLAINTEXT://127.0.0.1:{port}\n"
            )


class Cluster:
    """Both brokers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.first = Broker()
        self.second: Broker = _SecondBroker(self.first, directory / "first")

    @property
    def bootstrap(self) -> str:
        """host:port of the first broker, which stays up."""
        return self.first.bootstrap

    async def start(self) -> None:
        """Starts both; returns when the controller knows the second one."""
        await asyncio.to_thread(self.first.start, self._directory / "first")
        await self._make_offsets_topic()
        await asyncio.to_thread(self.second.start, self._directory / "second")
        await self.until_both()

    async def _make_offsets_topic(self) -> None:
        """Makes the broker create the offsets topic, which it does at the first query for a group's coordinator."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()

        async def created() -> bool:
            try:
                await admin.find_coordinator("nobody")
            except KafkaError:
                return False
            return True

        try:
            await wait_for_async(created, seconds=PATIENCE_S)
        finally:
            await admin.close()

    async def until_both(self) -> None:
        """Waits until the cluster has two brokers."""

        async def both() -> bool:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return len((await admin.describe_cluster())["brokers"]) == 2
            except KafkaError:
                return False
            finally:
                await admin.close()

        await wait_for_async(both, seconds=PATIENCE_S)

    async def leaderless(self, seconds: float) -> None:
        """Kills the second broker, and restarts it after so many seconds."""
        self.second.kill()
        await moment(seconds)
        await asyncio.to_thread(self.second.restart)
        await self.until_both()

    async def leaders(self, topic: str) -> dict[int, int]:
        """The broker id of each partition's leader; -1 if it has none."""
        found: dict[int, int] = {}

        async def described() -> bool:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                (row,) = await admin.describe_topics([topic])
            except KafkaError:
                # The client may query the broker that is down.
                return False
            finally:
                await admin.close()
            found.update((one["partition"], one["leader"]) for one in row["partitions"])
            return True

        await wait_for_async(described, seconds=PATIENCE_S)
        return found

    def release(self) -> None:
        """Stops both brokers."""
        self.second.release()
        self.first.release()
