"""One simulated system: broker, processors, provider, shoppers and a clock, in one thread, driven by a seed.

A run consists of steps: a processor works, time passes, a shopper acts, or a fault is injected. At the end of the plan
all faults end, and the system has to finish all pending work by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from eventlog.core.inbox_mapper import InboxMapper
from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from services.groups.domain.domain import GroupDomain
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.stock.domain import StockDomain
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.domain.state.model import GroupPayments
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.processors.sequencer import PaymentInboxMapper
from shared_kernel import topics
from tests.simulation.audit.auditor import Auditor
from tests.simulation.audit.end import check_end
from tests.simulation.audit.offers import check_offers
from tests.simulation.audit.outcomes import check_outcomes
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import CHECK_HOLDS_AFTER_MS, MIN_INPUTS, PARTITIONS, START_MS, Plan
from tests.simulation.histories.replay import CODECS, LOGS, check_replay
from tests.simulation.histories.sale import STOCK
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.checkpoints import Checkpoint
from tests.simulation.world.processes import DeciderProcess, EffectsProcess, Process
from tests.simulation.world.provider import Provider
from tests.simulation.world.routers import ROUTERS, RouterProcess
from tests.simulation.world.sequencers import Campaigns, SequencerProcess, group_inbox_mapper
from tests.simulation.world.shop import Act

G_SEQ, G_DEC = topics.GROUPS_SEQUENCER, topics.GROUPS_DECIDER
P_SEQ, P_DEC, P_EFF = topics.PAYMENTS_SEQUENCER, topics.PAYMENTS_DECIDER, topics.PAYMENTS_EFFECTS
READERS = (G_SEQ, G_DEC, P_SEQ, P_DEC, P_EFF)
I_STOCK, I_ALLOW = topics.INVENTORY_STOCK_DECIDER, topics.INVENTORY_ALLOWANCE_DECIDER
#: Further processors of a sale.
SALE_READERS = (I_STOCK, I_ALLOW, *ROUTERS)
#: A run with more steps is taken as one that never ends. While groups is down for three days, payments polls a payment
#: that waits for its confirmation once a minute, ten steps each: 60,000 were too few for seed 9578.
MAX_STEPS = 200_000
LAPSES_MS = (1, 1, 2, 40, 900, 6_000, 45_000)

#: Share of the sequencers that stamp the first version of the payment rules.
OLD_RULES = 0.2

Slot = tuple[str, int]
#: Receives the lines of the trace.
Trace = Callable[[str], None]
#: (call, group) -> whether it is done and no longer called.
Waiting = Callable[[ProviderCall, str], bool]


class World:
    """One history. The module `faults` injects the faults."""

    def __init__(self, plan: Plan, coverage: Coverage, trace: Trace | None = None) -> None:
        self.plan = plan
        self.coverage = coverage
        self.trace = trace
        self.chance = Random(plan.seed ^ 0x5EED)
        self.broker = Broker([one.name for one in topics.ALL], PARTITIONS, START_MS)
        self.auditor = Auditor(self.broker, coverage)
        self.broker.watchers = [self.auditor.take, self._wake_readers]
        self.provider = Provider(plan.seed, coverage, self._report_later, self.auditor.on_capture_at_provider)
        self.provider.on_refund_refused = self.auditor.on_refund_declined
        self.auditor.checked = self.provider.checked
        self.calling = PaymentEffectHandler(lambda method: self, lambda: self.broker.now_ms)
        self.domains: dict[str, Any] = {
            G_DEC: GroupDomain(),
            P_DEC: GroupPaymentsDomain(),
            I_STOCK: StockDomain(),
            I_ALLOW: AllowanceDomain(),
        }
        self.runnable: list[Process] = []
        self.checkpoints: dict[Slot, Checkpoint] = {}
        self.from_zombie: set[Slot] = set()
        self.campaigns: list[Campaigns] = []
        self.slots: dict[Slot, Process | None] = {}
        self.keys = {group.group: partition_of(group.group, PARTITIONS) for group in plan.groups}
        self.keys[STOCK] = partition_of(STOCK, PARTITIONS)
        self.lost_ticks = 0
        self.steps = 0
        self.calm = False
        #: Functions that wait for a certain call. Each is called before and after the effect of every call.
        self.waiting: list[Waiting] = []
        #: The same for orders in a certain payment status.
        self.aims: dict[str, list[Waiting]] = {}
        #: Keys of refunds that came back.
        self.reversed: set[str] = set()
        #: Holds whose fee was charged.
        self.charged_fees: set[str] = set()
        #: Number of operators' commands.
        self.commands = 0
        self._numbers = 0
        #: (time, number, action)
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        #: Zombies that will wake.
        self.frozen: list[Process] = []
        #: Numbers of the actions of shoppers on the agenda.
        self._outside: set[int] = set()
        for act in plan.acts:
            self._act_at(START_MS + act.at_ms, act)
        self._deadlines = dict(plan.at_deadline)
        self._faults = list(plan.faults)
        self._spare = plan.spare_by_group()
        for reader in (*READERS, *SALE_READERS) if plan.sale else READERS:
            for partition in range(PARTITIONS):
                self.start((reader, partition))

    # Processes ---------------------------------------------------------------------------------------------------

    def start(self, slot: Slot) -> None:
        """Starts a new process for a slot."""
        if self.slots.get(slot) is not None:
            return
        process = self._process(*slot)
        self.slots[slot] = process
        self.runnable.append(process)

    def _process(self, reader: str, partition: int) -> Process:
        broker, chance = self.broker, self.chance
        if reader == G_SEQ:
            rules, campaigns = group_inbox_mapper(broker)
            self.campaigns.append(campaigns)
            return self._sequencer(reader, partition, (topics.ORDERS, topics.PAYMENT_LOG), topics.GROUP_INBOX, rules)
        if reader == P_SEQ:
            # During a rolling deployment some processes still stamp the rules of before.
            mapper = PaymentInboxMapper(FIRST if chance.random() < OLD_RULES else CURRENT, CHECK_HOLDS_AFTER_MS)
            return self._sequencer(reader, partition, (topics.GROUP_LOG,), topics.PAYMENT_INBOX, mapper)
        if reader == P_EFF:
            return EffectsProcess(broker, partition, chance, self.calling)
        if reader in ROUTERS:
            return RouterProcess(broker, reader, partition, chance, PARTITIONS)
        inbox, log = LOGS[reader]
        checkpoint = self.checkpoints.get((reader, partition))
        if broker.logs[log, partition]:
            self._count_recovery((reader, partition), checkpoint)
        domain, codec = self.domains[reader], CODECS[reader]
        return DeciderProcess(broker, reader, partition, chance, inbox, log, domain, codec, checkpoint)

    def _sequencer(
        self, reader: str, partition: int, sources: tuple[TopicSpec, ...], inbox: TopicSpec, copying: InboxMapper
    ) -> SequencerProcess:
        names = tuple(one.name for one in sources)
        return SequencerProcess(
            self.broker, reader, names, partition, self.chance, inbox.name, inbox.writer, copying, self._dead_letter
        )

    def _count_recovery(self, slot: Slot, checkpoint: Checkpoint | None) -> None:
        kind = "checkpoint" if checkpoint is not None else "nothing"
        if checkpoint is not None and slot in self.from_zombie:
            kind = "a zombie's checkpoint"
        self.coverage.count("fault", "recovered from " + (kind if kind != "checkpoint" else "a checkpoint"))

    def payments_of(self, group: str) -> GroupPayments | None:
        """A group's payments in its decider's state; None: the decider is down, or the group has none."""
        decider = self.slots[P_DEC, self.keys[group]]
        found = decider.state.get(group) if isinstance(decider, DeciderProcess) else None
        return found.state if found is not None else None

    def deciders(self) -> list[DeciderProcess]:
        """The running deciders."""
        return [one for one in self.slots.values() if isinstance(one, DeciderProcess)]

    def _dead_letter(self) -> None:
        self.coverage.count("fault", "dead letter")

    def _wake_readers(self, record: Record) -> None:
        for reader in _READERS_OF.get(record.topic, ()):
            process = self.slots.get((reader, record.partition))
            if process is not None and process not in self.runnable and not process.paused:
                self.runnable.append(process)
        if self.trace is not None:
            self.trace(self.line(record))

    def line(self, record: Record) -> str:
        """A record as a line of the trace."""
        from tests.simulation.histories.history import describe

        return f"{self.clock()} {record.topic:<20} {record.partition}/{record.offset:<4} {describe(record)}"

    def clock(self) -> str:
        """Seconds since the start, as text."""
        return f"{(self.broker.now_ms - START_MS) / 1000:>10.3f}"

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Calls the provider; the adapter's protocol."""
        if not self.waiting:
            return await self.provider.perform(call, group)
        self._notify_waiting(call, group)
        outcome = await self.provider.perform(call, group)
        self._notify_waiting(call, group)
        return outcome

    def _notify_waiting(self, call: ProviderCall, group: str) -> None:
        self.waiting = [one for one in self.waiting if not one(call, group)]

    # Actions from outside ----------------------------------------------------------------------------------------

    def at(self, when_ms: int, what: Callable[[], None]) -> None:
        """Schedules an action for a time."""
        self._numbers += 1
        heapq.heappush(self._agenda, (when_ms, self._numbers, what))

    def _act_at(self, when_ms: int, act: Act) -> None:
        self.at(when_ms, lambda: self.act(act))
        self._outside.add(self._numbers)

    def postpone(self, delay_ms: int) -> None:
        """Postpones all scheduled actions of shoppers."""
        self._agenda = [
            (when_ms + delay_ms if number in self._outside else when_ms, number, what)
            for when_ms, number, what in self._agenda
        ]
        heapq.heapify(self._agenda)

    def check_due(self, late_ms: int) -> None:
        """Checks that no timer is overdue by more than `late_ms` in deciders with a correct clock. Raises Violation."""
        by_ms = self.broker.now_ms + self.broker.skew_ms - late_ms
        for decider in self.deciders():
            for one in decider.states.aggregates() if not decider.clock_skew_ms else ():
                due_ms = decider.state.domain.due(one.state)
                if due_ms is not None and due_ms < by_ms:
                    late_s = (by_ms + late_ms - due_ms) // 1000
                    raise Violation("what is due happens", one.key, f"{decider.reader} is {late_s} s late")

    def after(self, delay_ms: int, what: Callable[[], None]) -> None:
        """Schedules an action after a delay."""
        self.at(self.broker.now_ms + delay_ms, what)

    def act(self, act: Act) -> None:
        """Appends the record of an act."""
        if act.label not in _ORDINARY:
            self.coverage.count("fault", act.label)
        if act.topic == topics.CAMPAIGNS.name:
            self.broker.append(act.topic, 0, act.order.encode(), act.value)
        else:
            self.broker.append(act.topic, self.keys[act.group], act.group.encode(), act.value, act.headers)

    def _report_later(self, delay_ms: int, group: str, outcome: ProviderOutcome) -> None:
        self.after(delay_ms, lambda: self._deliver_report(group, outcome))

    def _deliver_report(self, group: str, outcome: ProviderOutcome) -> None:
        if outcome.WhichOneof("result") is None:
            self.provider.now_ms = self.broker.now_ms
            news = self.provider.confirm(outcome)
            if news is None:
                return
            outcome = news
        self.report(group, outcome)

    def report(self, group: str, outcome: ProviderOutcome) -> None:
        """Appends a provider result to the payment inbox."""
        self.tell_payments(group, PaymentInput(outcome=outcome))

    def tell_payments(self, group: str, message: PaymentInput) -> None:
        """Appends an input to the payment inbox, with the stamp of the API that would write it."""
        message.rules_version = CURRENT
        value = message.SerializeToString()
        self.broker.append(topics.PAYMENT_INBOX.name, self.keys[group], group.encode(), value)

    # Time --------------------------------------------------------------------------------------------------------

    def next_ms(self) -> int | None:
        """The true time of the next scheduled action or timer, or None if there is none."""
        found = [self._agenda[0][0]] if self._agenda else []
        for one in self.deciders():
            wait_ms = one.earliest_ms()
            if wait_ms is not None:
                found.append(self.broker.now_ms + wait_ms)
        return min(found) if found else None

    def pass_time(self, most_ms: int | None) -> bool:
        """Advances time to the next action or timer, by `most_ms` at most. False: there is none and no limit."""
        next_ms = self.next_ms()
        if next_ms is None and most_ms is None:
            return False
        now_ms = self.broker.now_ms
        until_ms = now_ms + most_ms if most_ms is not None else next_ms
        assert until_ms is not None
        self.broker.now_ms = self.provider.now_ms = max(now_ms, until_ms if next_ms is None else min(until_ms, next_ms))
        if next_ms is not None and next_ms <= self.broker.now_ms:
            self._due()
        return True

    def _due(self) -> None:
        now_ms = self.broker.now_ms
        if self.chance.random() < 0.5:
            self._fire_timers()
        while self._agenda and self._agenda[0][0] <= now_ms:
            heapq.heappop(self._agenda)[2]()
        self._fire_timers()
        if self.campaigns and self.chance.random() < 0.3:
            self.chance.choice(self.campaigns).read(1)

    def _fire_timers(self) -> None:
        for one in self.deciders():
            if one.earliest_ms() == 0:
                lost = self.lost_ticks > 0 and not self.calm
                if one.fire_timers(lost) and lost:
                    self.lost_ticks -= 1
                    self.coverage.count("fault", "lost tick")

    def _schedule_deadline_acts(self) -> None:
        """Schedules the acts around a deadline once the deadline is known."""
        for group in list(self._deadlines):
            found = self.auditor.case(group)
            if found is not None and found.group.deadline_ms:
                true_ms = found.group.deadline_ms - self.broker.skew_ms
                for act in self._deadlines.pop(group):
                    self._act_at(true_ms + act.at_ms, act)

    # The run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Plays the plan and checks the result. Raises Violation."""
        try:
            self._run()
        except Violation:
            raise
        except Exception as error:
            raise Violation("nothing crashes", "", f"{type(error).__name__}: {error}") from error
        check_end(self.auditor, self.provider.accounts.values())
        check_replay(self.broker, self.domains, self.chance)
        if self.plan.sale:
            check_outcomes(self.broker, self.auditor, self.chance)
            check_offers(self.broker)

    def _run(self) -> None:
        from tests.simulation.world import faults
        from tests.simulation.world.operators import repair

        random, runnable = self.chance.random, self.runnable
        while True:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise Violation("it comes to rest", "", f"{self.steps} steps and no end")
            while self._faults and self._faults[0].step <= self.steps:
                faults.apply(self, self._faults.pop(0))
            if not self.steps & 63 and self._deadlines:
                self._schedule_deadline_acts()
            if not runnable:
                if self._deadlines:
                    self._schedule_deadline_acts()
                if not self.pass_time(None):
                    if self.calm:
                        if repair(self):
                            continue
                        return
                    self._go_on()
                continue
            if random() < 0.03:
                self.pass_time(LAPSES_MS[int(random() * len(LAPSES_MS))])
            index = int(random() * len(runnable))
            process = runnable[index]
            if not process.step():
                if process.current or process.lives < 0:
                    runnable[index] = runnable[-1]
                    runnable.pop()
                else:
                    self.remove(process)
            elif not process.current:
                process.lives -= 1
                if process.lives <= 0:
                    self.remove(process)

    def _go_on(self) -> None:
        """At the end of all pending work: lets the next spare group act, or ends all faults."""
        from tests.simulation.world import faults

        if self._spare and self.auditor.inputs < MIN_INPUTS:
            for act in self._spare.pop(0):
                self._act_at(self.broker.now_ms + act.at_ms, act)
        else:
            faults.calm(self)

    def remove(self, zombie: Process) -> None:
        """Removes a process that lost its partition."""
        if zombie in self.runnable:
            self.runnable.remove(zombie)


#: Acts that are not counted as faults.
_ORDINARY = frozenset({"placed", "at the deadline", "campaign", "cancelled", "cancel_group", "refund", "tick", "stock"})
_READERS_OF: dict[str, tuple[str, ...]] = {
    topics.ORDERS.name: (G_SEQ,),
    topics.PAYMENT_LOG.name: (G_SEQ, P_EFF),
    topics.GROUP_LOG.name: (P_SEQ, topics.INVENTORY_ROUTER),
    topics.STOCK_INBOX.name: (I_STOCK,),
    topics.STOCK_LOG.name: (topics.GROUPS_ROUTER, topics.INVENTORY_OFFERS),
    topics.ALLOWANCE_INBOX.name: (I_ALLOW,),
    topics.ALLOWANCE_LOG.name: (topics.GROUPS_ROUTER,),
    topics.GROUP_INBOX.name: (G_DEC,),
    topics.PAYMENT_INBOX.name: (P_DEC,),
}
