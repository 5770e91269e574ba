"""The routers of a simulated system, one partition each. Mapping is production code."""

from __future__ import annotations

from collections import defaultdict, deque
from random import Random

from eventlog.core.partitioner import partition_of
from eventlog.core.route_mapper import RouteMappers
from services.groups.processors.router import AnswerRoutes
from services.inventory.processors.offers import OfferRoutes
from services.inventory.processors.router import InventoryRoutes
from shared_kernel import topics
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.processes import Batch, Out, Process

#: Router -> its sources and its mappers.
_ROUTERS: dict[str, tuple[tuple[str, ...], RouteMappers]] = {
    topics.INVENTORY_ROUTER: ((topics.GROUP_LOG.name,), InventoryRoutes()),
    topics.INVENTORY_OFFERS: ((topics.STOCK_LOG.name,), OfferRoutes()),
    topics.GROUPS_ROUTER: ((topics.STOCK_LOG.name, topics.ALLOWANCE_LOG.name), AnswerRoutes()),
}
ROUTERS = tuple(_ROUTERS)


class RouterProcess(Process):
    """Routes decisions. The output to one partition is in order; the outputs to different ones are in any order."""

    def __init__(self, broker: Broker, reader: str, partition: int, chance: Random, partitions: int) -> None:
        sources, self._mappers = _ROUTERS[reader]
        super().__init__(broker, reader, sources, partition, chance)
        self._partitions = partitions
        self._queues: dict[tuple[str, int], deque[Out]] = defaultdict(deque)

    def target(self, out: Out) -> int:
        return partition_of(out.key.decode(), self._partitions)

    def handle(self, records: list[Record], batch: Batch) -> None:
        for record in records:
            mapper = self._mappers.for_partition(record.topic, record.partition)
            for route in mapper.routes(record):
                out = Out(batch, route.topic, route.key.encode(), route.value)
                self._queues[route.topic, self.target(out)].append(out)
                self.outbox.append(out)

    def flush(self, count: int) -> None:
        """Writes up to `count` records to one partition."""
        target = self.chance.choice([one for one, queue in self._queues.items() if queue])
        queue = self._queues[target]
        for _ in range(min(count, len(queue))):
            out = queue.popleft()
            self.outbox.remove(out)
            self.broker.append(out.topic, target[1], out.key, out.value, out.headers)
            out.batch.left -= 1
