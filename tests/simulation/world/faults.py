"""Faults, one function for each kind. A fault without a target does nothing and is not counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from shared_kernel import topics
from tests.simulation.histories.aims import aim
from tests.simulation.histories.plan import Fault
from tests.simulation.world.broker import Record
from tests.simulation.world.forged_records import FORGED_EVENTS, forged_payment_event
from tests.simulation.world.money_faults import MONEY_FAULTS
from tests.simulation.world.processes import DeciderProcess, Out, Process
from tests.simulation.world.provider_life import PROVIDER_LIFE
from tests.simulation.world.shop import Act
from tests.simulation.world.unusual_results import unusual_result
from tests.simulation.world.world import Slot, World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
#: A period without calls, and the time within which a restarted decider has to handle all that was due an hour before.
NIGHT_MS = 5 * DAY_MS
AWAKE_MS = HOUR_MS // 6
#: A constant traffic of refused orders: its interval and number. A decider's clock stays fresh while it decides them.
TRAFFIC_INTERVAL_MS = 20_000
TRAFFIC = 150
#: Within this time, all that was due must have happened, whatever the broker's clock did.
TRAFFIC_LATE_MS = HOUR_MS // 2
#: Statuses of orders that forged events name, and the time between two searches for such an order.
_FORGED_STATUSES = ("WAITLISTED", "WAITLISTED", "SETTLING", "RESERVED", "CAPTURE_DECLINED", "LAPSED")
SEARCH_INTERVAL_MS = 20_000
#: Forged events that a group reacts to. A waitlisted order has no hold, so payments decides nothing about it.
_EVENTS_FOR_WAITLISTED = ("authorised", "captured", "released")


def apply(world: World, fault: Fault) -> None:
    """Injects a fault."""
    if world.trace is not None:
        world.trace(f"{world.clock()} FAULT {fault.kind}")
    _FAULTS[fault.kind](world, fault.pick)


def calm(world: World) -> None:
    """Ends all faults. The system has to finish all pending work by itself."""
    world.calm = True
    world.provider.unwell = False
    world.lost_ticks = 0
    world.waiting.clear()
    world.aims.clear()
    for slot, process in world.slots.items():
        if process is None:
            world.start(slot)
        elif process.paused:
            process.paused = False
            world.runnable.append(process)
    for decider in world.deciders():
        decider.clock_skew_ms = 0


# Processes ----------------------------------------------------------------------------------------------------------


def _victim(world: World, pick: int) -> tuple[Slot, Process] | None:
    """A running process, mostly one with unwritten output."""
    up = [(slot, one) for slot, one in world.slots.items() if one is not None]
    busy = [(slot, one) for slot, one in up if one.outbox]
    found = busy if busy and pick & 3 else up
    return found[pick // 4 % len(found)] if found else None


def _take_away(world: World, slot: Slot, process: Process, *, down_ms: int) -> None:
    """Assigns the partition to a new process, after `down_ms`."""
    process.current = False
    world.slots[slot] = None
    if process in world.runnable:
        world.runnable.remove(process)
    if down_ms:
        world.after(down_ms, lambda: world.start(slot))
    else:
        world.start(slot)


def _crash(world: World, pick: int) -> None:
    found = _victim(world, pick)
    if found is not None:
        world.coverage.count("fault", "crash")
        _take_away(world, *found, down_ms=(0, 0, 400, 10_000)[pick % 4])


def _half(world: World, pick: int) -> None:
    found = _victim(world, pick | 1)
    if found is not None and found[1].outbox:
        world.coverage.count("fault", "crash, half its output written")
        found[1].flush(1 + pick % len(found[1].outbox))
        _take_away(world, *found, down_ms=(0, 300)[pick % 2])


def _late(world: World, pick: int) -> None:
    found = _victim(world, pick | 1)
    if found is not None and found[1].outbox:
        world.coverage.count("fault", "crash, output arrives after its death")
        _deliver_later(world, found[1], pick)
        _take_away(world, *found, down_ms=(0, 0, 3_000)[pick % 3])


def _deliver_later(world: World, process: Process, pick: int) -> None:
    """Appends output that was sent before a crash later, in its order, and perhaps only a part of it."""
    sent: deque[Out] = deque(list(process.outbox)[: 1 + pick % len(process.outbox)])

    def arrive() -> None:
        for _ in range(min(len(sent), 1 + pick % 5)):
            out = sent.popleft()
            world.broker.append(out.topic, process.target(out), out.key, out.value, out.headers)
        if sent:
            world.after(5, arrive)

    world.after((0, 1, 2_000, 20_000)[pick % 4], arrive)


def _zombie(world: World, pick: int) -> None:
    found = _victim(world, pick)
    if found is None:
        return
    slot, process = found
    _take_away(world, slot, process, down_ms=0)

    def wake() -> None:
        if not world.calm:
            world.coverage.count("fault", "zombie woke")
            process.lives = 1 + pick % 25
            world.runnable.append(process)
            if isinstance(process, DeciderProcess) and pick & 1:
                checkpoint = process.checkpoint()
                if checkpoint is not None:
                    world.checkpoints[slot] = checkpoint
                    world.from_zombie.add(slot)

    world.after((1, 700, 11_000, 60_000)[pick % 4], wake)


def _rebalance(world: World, pick: int) -> None:
    found = _victim(world, pick)
    if found is not None:
        world.coverage.count("fault", "rebalance")
        slot, process = found
        if process.outbox:
            process.flush(pick % 6)
            process.commit()
        if process.outbox:
            _deliver_later(world, process, len(process.outbox) - 1)
        _take_away(world, slot, process, down_ms=0)


def _night(world: World, pick: int) -> None:
    """Restarts every decider, at once or days later, and postpones all calls. Only timers cause inputs then."""
    world.coverage.count("fault", "silence after a restart")
    if pick & 1:
        world.checkpoints.clear()
        world.from_zombie.clear()
    elif pick & 2:
        _checkpoint(world, pick)
    for slot, process in list(world.slots.items()):
        if isinstance(process, DeciderProcess):
            _take_away(world, slot, process, down_ms=3 * DAY_MS if pick & 4 else 0)
    world.postpone(NIGHT_MS)
    world.after((3 * DAY_MS if pick & 4 else 0) + AWAKE_MS, lambda: world.check_due(HOUR_MS))
    world.after(NIGHT_MS - DAY_MS // 2, lambda: world.check_due(HOUR_MS))


def _traffic(world: World, pick: int) -> None:
    """Sends orders to a group, one after the other, until long after its deadline: timers fire beside other output."""
    group = world.plan.groups[pick % len(world.plan.groups)]
    world.coverage.count("fault", "constant traffic")
    for number in range(TRAFFIC):
        name = f"traffic-{number}"
        fact = OrderFact(order=name, group=group.group, customer=name)
        fact.placed.campaign = group.campaign.name
        fact.placed.request_sha256 = name.encode()
        act = Act(0, "placed", topics.ORDERS.name, group.group, fact.SerializeToString(), (), name)
        world.after(number * TRAFFIC_INTERVAL_MS, partial(world.act, act))
    world.after(TRAFFIC * TRAFFIC_INTERVAL_MS, lambda: world.check_due(TRAFFIC_LATE_MS))


def _slow(world: World, pick: int) -> None:
    found = _victim(world, pick)
    if found is None or found[1].paused:
        return
    process = found[1]
    world.coverage.count("fault", "slow consumer")
    process.paused = True
    if process in world.runnable:
        world.runnable.remove(process)

    def resume() -> None:
        if process.paused and process.current:
            process.paused = False
            world.runnable.append(process)

    world.after((50, 5_000, 90_000)[pick % 3], resume)


def _checkpoint(world: World, pick: int) -> None:
    for slot, process in world.slots.items():
        if isinstance(process, DeciderProcess):
            checkpoint = process.checkpoint()
            if checkpoint is not None:
                world.checkpoints[slot] = checkpoint
                world.from_zombie.discard(slot)


def _lose_state(world: World, pick: int) -> None:
    world.checkpoints.clear()
    world.from_zombie.clear()
    _crash(world, pick)


# Clocks -------------------------------------------------------------------------------------------------------------


def _clock_back(world: World, pick: int) -> None:
    world.coverage.count("fault", "broker clock back an hour")
    world.broker.skew_ms -= HOUR_MS


def _clock_ahead(world: World, pick: int) -> None:
    world.coverage.count("fault", "broker clock ahead")
    world.broker.skew_ms += pick % (HOUR_MS // 4)


def _service_clock(skew_ms: int, name: str) -> Callable[[World, int], None]:
    def wrong(world: World, pick: int) -> None:
        deciders = world.deciders()
        if deciders:
            world.coverage.count("fault", name)
            deciders[pick % len(deciders)].clock_skew_ms = skew_ms

    return wrong


def _broker_away(world: World, pick: int) -> None:
    world.coverage.count("fault", "broker away")
    world.broker.now_ms += (5_000, 30_000, 120_000)[pick % 3]
    world.provider.now_ms = world.broker.now_ms


def _lost_tick(world: World, pick: int) -> None:
    world.lost_ticks += 1 + pick % 3


def _forge(world: World, pick: int, tries: int = 20) -> None:
    """Forges a payment event of an order in a certain status. Some statuses are short, so it searches several times."""
    forged = _forge_event(world, _FORGED_STATUSES[pick % len(_FORGED_STATUSES)], FORGED_EVENTS, pick)
    if not forged and tries and not world.calm:
        world.after(SEARCH_INTERVAL_MS, lambda: _forge(world, pick, tries - 1))


def _forge_for_waitlisted(world: World, pick: int) -> None:
    """Forges a payment event of the first waitlisted order, as soon as there is one."""

    def forge(call: ProviderCall, group: str) -> bool:
        case = world.auditor.case(group)
        waits = case is not None and bool(case.group.waiting)
        return waits and _forge_event(world, "WAITLISTED", _EVENTS_FOR_WAITLISTED, pick)

    world.waiting.append(forge)


def _forge_for_admitting(world: World, pick: int) -> None:
    """Forges a payment event of the next order that waits for its admission, before the answer comes."""
    kinds = [_EVENTS_FOR_WAITLISTED[pick % len(_EVENTS_FOR_WAITLISTED)]]

    def watch(record: Record) -> None:
        if world.calm or not kinds or record.topic != topics.GROUP_LOG.name:
            return
        decision = GroupDecision.FromString(record.value or b"")
        for event in decision.events:
            if event.HasField("admission_requested") and kinds:
                asked = event.admission_requested
                if asked.payment_method.endswith("_action"):
                    # As in `_forge_event`.
                    continue
                world.coverage.count("fault", "forged for an order without admission")
                value = forged_payment_event(kinds.pop(), decision.group, asked.order, 900)
                world.broker.append(topics.GROUP_INBOX.name, record.partition, decision.group.encode(), value)

    world.broker.watchers.append(watch)


def _forge_event(world: World, wanted: str, events: tuple[str, ...], pick: int) -> bool:
    """Forges a payment event of an order in a status. Returns False if there is no such order."""
    auditor = world.auditor
    # Orders that need a confirmation are excluded, as in `shop`.
    found = [one for one in auditor.orders_in(wanted) if not auditor.payment_method(*one).endswith("_action")]
    if found:
        key, name = found[pick // 6 % len(found)]
        value = forged_payment_event(events[pick // 64 % len(events)], key, name, 900)
        world.coverage.count("fault", "forged payment event")
        world.broker.append(topics.GROUP_INBOX.name, world.keys[key], key.encode(), value)
    return bool(found)


_FAULTS: dict[str, Callable[[World, int], None]] = {
    "crash": _crash,
    "half": _half,
    "late": _late,
    "zombie": _zombie,
    "rebalance": _rebalance,
    "slow": _slow,
    "night": _night,
    "traffic": _traffic,
    "checkpoint": _checkpoint,
    "lose_state": _lose_state,
    "clock_back": _clock_back,
    "clock_ahead": _clock_ahead,
    "service_ahead": _service_clock(DAY_MS, "service clock a day ahead"),
    "service_behind": _service_clock(-DAY_MS, "service clock a day behind"),
    "broker_away": _broker_away,
    "lost_tick": _lost_tick,
    "forge": _forge,
    "forge_for_waitlisted": _forge_for_waitlisted,
    "forge_for_admitting": _forge_for_admitting,
    "unusual_result": unusual_result,
    "aim": aim,
    **MONEY_FAULTS,
    **PROVIDER_LIFE,
}
