"""A simulated sale of one stock item: groups, the stock decider, the allowance decider and both routers, on several
partitions, with crashes, stale owners, repeats and reorderings between lanes.

Deciding, folding, encoding states and mapping are production code. Payments are a model: each reserved seat is
authorised or declined once, each charge succeeds or is declined once, and each release is confirmed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput
from groupbuy.inventory.v1.inbox_pb2 import CreateStockCommand, StockInput, UpdateStockCommand

from eventlog.core.partitioner import partition_of
from eventlog.records.codec import Codec
from services.groups.domain.domain import GroupDomain
from services.groups.processors import codec as groups_codec
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.processors import codec
from shared_kernel import topics
from tests.scenarios import facts, inputs, payment_events
from tests.simulation.audit.pieces import PiecesAuditor
from tests.simulation.audit.product import ProductAuditor
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.checkpoints import Checkpoint
from tests.simulation.world.processes import DeciderProcess, Process
from tests.simulation.world.routers import ROUTERS, RouterProcess

PARTITIONS = 3
START_MS = 1_760_000_000_000
STOCK = "drop"
WINDOW_MS = 60_000
TOPICS = tuple(
    topic.name
    for topic in (
        topics.GROUP_INBOX,
        topics.GROUP_LOG,
        topics.STOCK_INBOX,
        topics.STOCK_LOG,
        topics.ALLOWANCE_INBOX,
        topics.ALLOWANCE_LOG,
    )
)
#: Steps after which a world that has work left does not end.
MAX_STEPS = 20_000
FAULTS = ("crash", "half", "stale", "late")


class StockWorld:
    """One history. `run` plays it to its end and raises Violation if an invariant fails."""

    def __init__(self, seed: int, *, product_only: bool = False) -> None:
        """With `product_only`, only the product's audit raises Violation."""
        self.chance = chance = Random(seed)
        self.broker = Broker(TOPICS, PARTITIONS, START_MS)
        self.offer = _offer(chance)
        self.total = chance.choice((0, 1, 3, 8, 20, 60))
        self.auditor = PiecesAuditor(self.offer, STOCK)
        self.product = ProductAuditor(PARTITIONS)
        self.auditor.silent = product_only
        self.broker.watchers += [self.product.watch, self.auditor.watch, self._pay]
        #: (time, number, action), in the order of time.
        self._plan: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._authorised: dict[str, str] = {}
        self._released: set[str] = set()
        self.checkpoints: dict[tuple[str, int], Checkpoint] = {}
        self.slots: dict[tuple[str, int], Process] = {}
        self.stale: list[Process] = []
        self.faults = 0
        for name in (
            topics.GROUPS_DECIDER,
            topics.INVENTORY_STOCK_DECIDER,
            topics.INVENTORY_ALLOWANCE_DECIDER,
            topics.GROUPS_ROUTER,
            topics.INVENTORY_ROUTER,
        ):
            for partition in range(PARTITIONS):
                self.slots[name, partition] = self._start(name, partition)
        self._shop()

    # Processes --------------------------------------------------------------------------------------------------

    def _start(self, name: str, partition: int) -> Process:
        if name in ROUTERS:
            return RouterProcess(self.broker, name, partition, self.chance, PARTITIONS)
        inbox, log, domain, kept = _DECIDERS[name]
        checkpoint = self.checkpoints.get((name, partition))
        return DeciderProcess(self.broker, name, partition, self.chance, inbox, log, domain(), kept, checkpoint)

    def _fault(self) -> None:
        slot = self.chance.choice(list(self.slots))
        before = self.slots[slot]
        kind = self.chance.choice(FAULTS)
        before.current = False
        self.faults += 1
        if isinstance(before, DeciderProcess) and self.chance.random() < 0.3:
            checkpoint = before.checkpoint()
            if checkpoint is not None:
                self.checkpoints[slot] = checkpoint
        if kind == "half" and before.outbox:
            before.flush(self.chance.randrange(1, 4))
        if kind in ("stale", "late"):
            before.lives = self.chance.randrange(1, 30) if kind == "stale" else 3
            self.stale.append(before)
        self.slots[slot] = self._start(*slot)

    def _step_stale(self) -> bool:
        if not self.stale or self.chance.random() < 0.7:
            return False
        process = self.chance.choice(self.stale)
        process.lives -= 1
        if process.lives <= 0:
            self.stale.remove(process)
        if process.outbox:
            process.flush(self.chance.randrange(1, 5))
            return True
        return process.step()

    # The shop ---------------------------------------------------------------------------------------------------

    def _shop(self) -> None:
        chance = self.chance
        partition = partition_of(STOCK, PARTITIONS)
        command = StockInput(
            create=CreateStockCommand(request_id="c", total=self.total, lease_divisor=chance.choice((0, 1, 2)))
        )
        self.broker.append(topics.STOCK_INBOX.name, partition, STOCK.encode(), command.SerializeToString())
        groups = [f"g{number}" for number in range(chance.choice((1, 3, 8, 15)))]
        number = 0
        for group in groups:
            opened_ms = chance.randrange(WINDOW_MS)
            for member in range(chance.choice((1, 2, 4, 6))):
                number += 1
                self._after(opened_ms + member * chance.choice((0, 1, 500)), self._order(group, f"o{number}", member))
            if chance.random() < 0.1:
                self._after(opened_ms + chance.randrange(WINDOW_MS), partial(self._cancel_group, group))
        for _ in range(chance.choice((0, 0, 2))):
            self._after(chance.randrange(WINDOW_MS), self._change_total)

    def _order(self, group: str, order: str, member: int) -> Callable[[], None]:
        chance = self.chance
        customer = f"c{chance.randrange(6)}"
        solo = member == 0 and chance.random() < 0.15
        fact = facts.placed(
            order,
            group=group,
            customer=customer,
            opens_group=member == 0,
            solo=solo,
            quantity=chance.choice((1, 1, 1, 2, 3)),
            max_unit_price_minor=9_900,
            request_sha256=order.encode(),
        )
        value = inputs.order_fact(fact, self.offer if member == 0 else None).SerializeToString()
        cancel = inputs.order_fact(facts.cancel_requested(order, group=group, customer=customer)).SerializeToString()

        def place() -> None:
            self.auditor.placed(order, group, customer, fact.placed.quantity)
            self._to_group(group, value)
            if chance.random() < 0.15:
                self._after(chance.randrange(20_000), lambda: self._to_group(group, cancel))

        return place

    def _cancel_group(self, group: str) -> None:
        self._to_group(group, GroupInput(cancel_group=CancelGroupCommand(reason="test")).SerializeToString())

    def _change_total(self) -> None:
        total = self.chance.choice((0, 2, 10, 40, 80))
        update = UpdateStockCommand(request_id=f"u{self._planned}.{self.chance.random()}", total=total)
        self.broker.append(
            topics.STOCK_INBOX.name,
            partition_of(STOCK, PARTITIONS),
            STOCK.encode(),
            StockInput(update=update).SerializeToString(),
        )

    def _to_group(self, group: str, value: bytes) -> None:
        for _ in range(2 if self.chance.random() < 0.05 else 1):
            self.broker.append(topics.GROUP_INBOX.name, partition_of(group, PARTITIONS), group.encode(), value)

    # Payments ---------------------------------------------------------------------------------------------------

    def _pay(self, record: Record) -> None:
        if record.topic != topics.GROUP_LOG.name:
            return
        decision = GroupDecision.FromString(record.value or b"")
        if not self.auditor.is_first(decision.group, decision.version):
            return
        group = decision.group
        for event in decision.events:
            body = event.WhichOneof("body")
            if body == "seat_reserved":
                self._after(
                    self._delay(), self._hold(group, event.seat_reserved.order, event.seat_reserved.hold_amount_minor)
                )
            elif body == "release_requested":
                self._released.add(event.release_requested.order)
                self._paid(group, payment_events.payment_released(event.release_requested.order))
            elif body == "settlement_requested":
                asked = event.settlement_requested
                if self.chance.random() < 0.15:
                    self._paid(group, payment_events.capture_declined(asked.order, "closed"))
                else:
                    self._paid(group, payment_events.captured(asked.order, asked.amount_minor))

    def _hold(self, group: str, order: str, amount_minor: int) -> Callable[[], None]:
        declined = self.chance.random() < 0.15

        def hold() -> None:
            if order in self._released:
                return
            made = (
                payment_events.hold_declined(order) if declined else payment_events.hold_authorised(order, amount_minor)
            )
            self._to_group(group, inputs.payments_decided(group, made).SerializeToString())

        return hold

    def _paid(self, group: str, event: Any) -> None:
        value = inputs.payments_decided(group, event).SerializeToString()
        self._after(self._delay(), lambda: self._to_group(group, value))

    def _delay(self) -> int:
        return self.chance.choice((0, 5, 300, 300, 9_000))

    # Time -------------------------------------------------------------------------------------------------------

    def _after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._planned += 1
        self._plan.append((self.broker.now_ms + delay_ms, self._planned, action))

    def run(self) -> None:
        """Plays the history. Raises Violation."""
        chance = self.chance
        for _ in range(MAX_STEPS):
            if self.faults < 25 and chance.random() < 0.02:
                self._fault()
            if self._step_stale():
                continue
            if self._step():
                continue
            self.product.check_quiet()
            self.auditor.check_quiet(self)
            if self._pass_time():
                continue
            self.product.check_end()
            self.auditor.check_end(self)
            return
        raise AssertionError("the history does not end")

    def _step(self) -> bool:
        busy = [one for one in self.slots.values() if one.outbox or one.batches or one.unread()]
        if not busy:
            return False
        self.chance.choice(busy).step()
        return True

    def _pass_time(self) -> bool:
        """Advances the clock to the next planned action or timer. Returns False if there is none."""
        deciders = [one for one in self.slots.values() if isinstance(one, DeciderProcess)]
        waits = [wait for one in deciders if (wait := one.earliest_ms()) is not None]
        planned = min(self._plan, default=None, key=lambda one: one[:2])
        if planned is not None:
            waits.append(max(planned[0] - self.broker.now_ms, 0))
        if not waits:
            return False
        self.broker.now_ms += min(waits)
        if planned is not None and planned[0] <= self.broker.now_ms:
            self._plan.remove(planned)
            planned[2]()
        for one in deciders:
            one.fire_timers(lost=self.chance.random() < 0.1)
        return True

    def decided(self, name: str) -> Sequence[DeciderProcess]:
        """The deciders of one kind, one a partition."""
        found = [self.slots[name, partition] for partition in range(PARTITIONS)]
        return [one for one in found if isinstance(one, DeciderProcess)]


_DECIDERS: dict[str, tuple[str, str, Callable[[], Any], Codec[Any]]] = {
    topics.GROUPS_DECIDER: (
        topics.GROUP_INBOX.name,
        topics.GROUP_LOG.name,
        GroupDomain,
        Codec("", groups_codec.encode, groups_codec.decode),
    ),
    topics.INVENTORY_STOCK_DECIDER: (topics.STOCK_INBOX.name, topics.STOCK_LOG.name, StockDomain, codec.STOCK),
    topics.INVENTORY_ALLOWANCE_DECIDER: (
        topics.ALLOWANCE_INBOX.name,
        topics.ALLOWANCE_LOG.name,
        AllowanceDomain,
        codec.ALLOWANCE,
    ),
}


def _offer(chance: Random) -> Campaign:
    offer = facts.campaign(
        name="campaigns/mug",
        capacity=chance.choice((2, 3, 5)),
        tiers=[Tier(members=2, unit_price_minor=8_900)],
        window=facts.duration(WINDOW_MS),
        hold_window=facts.duration(20_000),
        waitlist=chance.random() < 0.5,
        house_fill_members=chance.choice((0, 1)),
        seats_per_customer=chance.choice((1, 3)),
        rules_version=2,
        stock=f"stocks/{STOCK}",
        limit_per_customer=chance.choice((0, 0, 1, 3)),
        revision=1,
    )
    offer.lease_ahead = chance.choice((0, 0, 1, offer.capacity))
    if chance.random() < 0.2:
        offer.start_time.CopyFrom(_time(START_MS + chance.randrange(10_000)))
    if chance.random() < 0.2:
        offer.end_time.CopyFrom(_time(START_MS + 20_000 + chance.randrange(60_000)))
    return offer


def _time(milliseconds: int) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(milliseconds)
    return made
