"""Decides all groups again in one sequence, with stock items and allowances: the outcome if pieces or limits had been
others. Writes nothing.

Inputs come in the order of their times over all groups, and timers fire when they are due, so that a piece that comes
back at a deadline goes to the group that waits for it then. Messages between groups, stock items and allowances take no
time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.inbox_pb2 import CreateStockCommand, StockInput

from eventlog.core.aggregate import Aggregate, decide
from ops.log.rerun.simulated import Actual, Change, Simulated
from services.groups.processors.router import AnswerRoutes
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.stock.domain import StockDomain
from services.inventory.processors.router import InventoryRoutes
from shared_kernel.topics import ALLOWANCE_LOG, GROUP_LOG, STOCK_INBOX, STOCK_LOG

#: Pieces of a stock item of which nothing is known.
UNKNOWN_TOTAL = 0

#: An inbox record: offset, time in milliseconds since the epoch, and value.
Input = tuple[int, int, bytes]


class _Decided(NamedTuple):
    """A decision as a router reads it."""

    key: bytes
    value: bytes
    offset: int


class Inventory:
    """The stock items and allowances of a simulation."""

    def __init__(self, total_of: Callable[[str], int]) -> None:
        """`total_of` returns the pieces of a stock item."""
        self._total_of = total_of
        self._stocks: dict[str, Aggregate[Any]] = {}
        self._allowances: dict[str, Aggregate[Any]] = {}
        self._causes = count()
        self._requests = InventoryRoutes().for_partition(GROUP_LOG.name, 0)
        answers = AnswerRoutes()
        self._stock_answers = answers.for_partition(STOCK_LOG.name, 0)
        self._admissions = answers.for_partition(ALLOWANCE_LOG.name, 0)
        self._domains = StockDomain(), AllowanceDomain()

    def take(self, decision: bytes, at_ms: int) -> list[tuple[str, GroupInput]]:
        """Decides what a group's decision asks for. Returns the inputs of groups that follow, with their groups."""
        message = GroupDecision.FromString(decision)
        # Causes ascend over all groups, as within one partition.
        message.cause = next(self._causes)
        record = _Decided(message.group.encode(), message.SerializeToString(), message.cause)
        found: list[tuple[str, GroupInput]] = []
        for routed in self._requests.routes(record):
            if routed.topic == STOCK_INBOX.name:
                found += self._decide_stock(routed.key, routed.value, at_ms)
            else:
                made = self._decide(self._allowance(routed.key), self._domains[1], routed.value, at_ms)
                found += self._answers(self._admissions, routed.key, made)
        return found

    def _decide_stock(self, key: str, value: bytes, at_ms: int) -> list[tuple[str, GroupInput]]:
        stock, domain = self._stock(key, at_ms), self._domains[0]
        found = self._answers(self._stock_answers, key, self._decide(stock, domain, value, at_ms))
        while (due_ms := domain.due(stock.state)) is not None:
            made = self._decide(stock, domain, domain.tick(due_ms), at_ms)
            found += self._answers(self._stock_answers, key, made)
        return found

    def _stock(self, key: str, at_ms: int) -> Aggregate[Any]:
        found = self._stocks.get(key)
        if found is None:
            found = self._stocks[key] = Aggregate(key, self._domains[0].initial(key))
            create = StockInput(create=CreateStockCommand(request_id="what-if", total=self._total_of(key)))
            self._decide(found, self._domains[0], create.SerializeToString(), at_ms)
        return found

    def _allowance(self, key: str) -> Aggregate[Any]:
        found = self._allowances.get(key)
        if found is None:
            found = self._allowances[key] = Aggregate(key, self._domains[1].initial(key))
        return found

    def _decide(self, aggregate: Aggregate[Any], domain: Any, value: bytes, at_ms: int) -> bytes | None:
        return decide(domain, aggregate, value, next(self._causes), at_ms)

    @staticmethod
    def _answers(mapper: Any, key: str, decision: bytes | None) -> list[tuple[str, GroupInput]]:
        if decision is None:
            return []
        routes = mapper.routes(_Decided(key.encode(), decision, 0))
        return [(routed.key, GroupInput.FromString(routed.value)) for routed in routes]

    @property
    def free(self) -> int:
        """Free pieces of all stock items."""
        return sum(stock.state.free for stock in self._stocks.values())


class Sale:
    """The simulation of all groups. Call `add` for each group, then `run`."""

    def __init__(self, change: Change, total_of: Callable[[str], int]) -> None:
        self._change = change
        self.inventory = Inventory(total_of)
        self.groups: dict[str, Simulated] = {}
        #: (time, number, group, input): an input of the log, or a timer, which has none. In the order of time.
        self._plan: list[tuple[int, int, str, tuple[int, GroupInput] | None]] = []
        self._number = count()
        self._made: deque[tuple[str, bytes]] = deque()

    def add(self, key: str, actual: Actual, inputs: Iterable[Input]) -> None:
        """Adds a group with the records of its inbox."""
        group = self.groups[key] = Simulated(key, actual, self._change, lambda made: self._made.append((key, made)))
        for offset, at_ms, value in inputs:
            message = GroupInput.FromString(value)
            if message.WhichOneof("body") in ("stock_answer", "admission_answer", "tick"):
                # Simulated stock items and allowances answer, and timers fire by themselves.
                continue
            group.add_results(offset, message)
            self._plan.append((at_ms, next(self._number), key, (offset, message)))

    def run(self, end_ms: int) -> Mapping[str, Simulated]:
        """Plays everything up to a time. Returns the groups."""
        heapq.heapify(self._plan)
        while self._plan and self._plan[0][0] <= end_ms:
            at_ms, _, key, planned = heapq.heappop(self._plan)
            group = self.groups[key]
            if planned is not None:
                group.take(planned[0], at_ms, planned[1])
            elif (due_ms := group.due_ms()) is None or due_ms > at_ms:
                continue
            else:
                group.fire(at_ms)
            self._follow(key, at_ms)
        return self.groups

    def _follow(self, key: str, at_ms: int) -> None:
        """Lets stock items and allowances answer, until nothing follows, and plans the timers of all groups touched."""
        touched = {key: None}
        while self._made:
            _, decision = self._made.popleft()
            for group, answer in self.inventory.take(decision, at_ms):
                touched[group] = None
                self.groups[group].answer(answer, at_ms)
        for group in touched:
            due_ms = self.groups[group].due_ms()
            if due_ms is not None:
                heapq.heappush(self._plan, (max(due_ms, at_ms), next(self._number), group, None))
