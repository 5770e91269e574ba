"""Two brokers, of which the second may be away: its partitions then have no leader, while the first answers as ever.

There is one copy of each partition, so nobody takes over. The first is the controller, and keeps the offsets of the
consumer groups: topics are made while it is alone, and those of a test afterwards.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.kafka.broker import Broker
from tests.waiting import moment, wait_for_async

PATIENCE_S = 30.0


class _Second(Broker):
    """A broker that joins another one's cluster."""

    def __init__(self, first: Broker, directory: Path) -> None:
        super().__init__()
        self._first = first
        self._beside = directory

    def _cluster_id(self) -> str:
        lines = (self._beside / "data" / "meta.properties").read_text(encoding="utf-8").splitlines()
        return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))

    def _write_settings(self, path: Path, port: int, controller_port: int, data: Path) -> None:
        super()._write_settings(path, port, controller_port, data)
        # Of two values of a name, Kafka takes the later.
        with path.open("a", encoding="utf-8") as settings:
            settings.write(
                "\nprocess.roles=broker\nnode.id=2\n"
                f"controller.quorum.voters=1@127.0.0.1:{self._first._claimed[-1]}\n"
                f"listeners=PLAINTEXT://127.0.0.1:{port}\n"
            )


class Cluster:
    """Both brokers. `bootstrap` is the first one's address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.first = Broker()
        self.second: Broker = _Second(self.first, directory / "first")

    @property
    def bootstrap(self) -> str:
        """host:port of the broker that stays."""
        return self.first.bootstrap

    async def start(self) -> None:
        """Starts both; returns when the controller knows the second."""
        await asyncio.to_thread(self.first.start, self._directory / "first")
        await self._make_offsets_topic()
        await asyncio.to_thread(self.second.start, self._directory / "second")
        await self.until_both()

    async def _make_offsets_topic(self) -> None:
        """The broker makes it when a group is looked for, on the brokers that are there by then."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()

        async def made() -> bool:
            try:
                await admin.find_coordinator("nobody")
            except KafkaError:
                return False
            return True

        try:
            await wait_for_async(made, seconds=PATIENCE_S)
        finally:
            await admin.close()

    async def until_both(self) -> None:
        """Waits until two brokers are known."""

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
        """SIGKILL to the second, which starts again after so many seconds."""
        self.second.kill()
        await moment(seconds)
        await asyncio.to_thread(self.second.restart)
        await self.until_both()

    async def led(self, topic: str) -> dict[int, int]:
        """Id of the leader of each partition; -1: it has none."""
        found: dict[int, int] = {}

        async def told() -> bool:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                (row,) = await admin.describe_topics([topic])
            except KafkaError:
                # The client asks any broker that it knows of, also one that is away.
                return False
            finally:
                await admin.close()
            found.update((one["partition"], one["leader"]) for one in row["partitions"])
            return True

        await wait_for_async(told, seconds=PATIENCE_S)
        return found

    def release(self) -> None:
        """Stops both."""
        self.second.release()
        self.first.release()
