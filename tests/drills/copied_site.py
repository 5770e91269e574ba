"""A second broker with a copy of a site's log and one wrong entry; a watch of it, and an orders process with TLS."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaProducer
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from devstack.certificates import ca
from devstack.certificates.ca import Authority
from devstack.kafka.broker import Broker
from devstack.supervision import ports
from devstack.supervision.process import Process
from eventlog.records.topic_spec import TopicSpec
from groupbuy_settlement import command
from ops.log.reader import Reader
from shared_kernel.topics import BUSINESS, PAYMENT_LOG
from tests.drills.site import Site
from tests.drills.watch import Watch

#: Added to the captured amount of one payment, in minor units.
WRONG_MINOR = 100


class CopiedSite:
    """The second broker and its processes. Their metrics become targets of the site's Prometheus."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._directory = site.directory / "copy"
        self._broker = Broker()
        self._authority = Authority(self._directory / "certificates")
        self._watch: Watch | None = None
        self._orders: Process | None = None
        self._ports = [ports.free_port(), ports.free_port()]

    @property
    def kafka(self) -> str:
        """host:port of the second broker."""
        return self._broker.bootstrap

    def start(self, certificate_life: timedelta) -> None:
        """Copies the log with the wrong entry, and starts watch and the orders process."""
        self._broker.start(self._directory / "kafka")
        code, text = self._site.run(
            f"groupbuy-ops topics create --partitions {self._site.stack.partitions} --replication 1",
            {"KAFKA": self.kafka},
        )
        assert code == 0, text
        assert asyncio.run(self._copy()) == 1, "the log has no captured payment"
        self.issue(certificate_life)
        self._orders = self._start_orders()
        self._watch = Watch(self.kafka, self._directory / "watch")
        self._watch.start()
        site = self._site
        site.prometheus.targets("orders", [site.metrics("orders"), f"127.0.0.1:{self._ports[1]}"])
        site.prometheus.targets("watch", [site.watch.address, self._watch.address])

    def issue(self, life: timedelta) -> None:
        """Replaces the certificate of the orders process."""
        self.certificate = self._authority.issue("orders", ca.identities()["orders"], life=life).certificate

    def watch_gone(self) -> None:
        """Stops the watch of the copy."""
        self._site.prometheus.targets("watch", [self._site.watch.address])
        if self._watch is not None:
            self._watch.release()

    def stop(self) -> None:
        """Stops everything and removes the targets."""
        self._site.prometheus.targets("orders", [self._site.metrics("orders")])
        self.watch_gone()
        if self._orders is not None:
            self._orders.stop(grace_s=5)
        self._broker.release()
        ports.release(*self._ports)

    def _start_orders(self) -> Process:
        settings = {
            "KAFKA": self.kafka,
            "KAFKA_SECURITY": "PLAINTEXT",
            "LISTEN": f"127.0.0.1:{self._ports[0]}",
            "METRICS_LISTEN": f"127.0.0.1:{self._ports[1]}",
            "STATE_DIR": str(self._directory / "orders"),
            "INSTANCE": "orders-0",
            "TLS_CERTIFICATE": str(self.certificate),
            "TLS_KEY": str(self.certificate.with_suffix(".key")),
            "TLS_CA": str(self._authority.certificate),
        }
        environment = {f"GROUPBUY_ORDERS_{name}": value for name, value in settings.items()}
        log = self._directory / "orders.log"
        process = Process(command("services.orders"), log=log, cwd=self._directory, environment=environment)
        process.start()
        return process

    async def _copy(self) -> int:
        """Copies every record. Returns the number of wrong entries that it made."""
        changed = 0
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all")
        await producer.start()
        try:
            # Effects first: the copy of a log that grows lacks no cause of a decision that it has.
            for spec in reversed(BUSINESS):
                changed += await self._copy_topic(producer, spec)
        finally:
            await producer.stop()
        return changed

    async def _copy_topic(self, producer: AIOKafkaProducer, spec: TopicSpec) -> int:
        records: list[Any] = []
        async with Reader(self._site.stack.kafka, [spec.name]) as reader:
            await reader.read_to_end(lambda _, found: records.extend(found))
        changed, sent = 0, []
        for one in records:
            value = one.value
            if spec is PAYMENT_LOG and not changed and (wrong := _wrong(value)) is not None:
                value, changed = wrong, 1
            sent.append(
                await producer.send(spec.name, value, key=one.key, partition=one.partition, headers=list(one.headers))
            )
        await asyncio.gather(*sent)
        return changed


def _wrong(value: bytes) -> bytes | None:
    """A payment decision with another captured amount; None if it has none."""
    with contextlib.suppress(ValueError):
        decision = PaymentDecision.FromString(value)
        for event in decision.events:
            if event.WhichOneof("body") == "captured":
                event.captured.amount_minor += WRONG_MINOR
                return decision.SerializeToString(deterministic=True)
    return None
