"""What happens at the provider during the day, by its own doing and by people in its dashboard."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any
from uuid import uuid4

import grpc
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1.simprovider_pb2_grpc import SimProviderServiceStub

CALL_S = 20.0
#: Id of our deployment, and of the other one on the same account.
OURS, FOREIGN = "day", "elsewhere"
#: Fees as a card provider has them; a third of the refunds is refused, fails at the bank, or is reversed later.
FEES = {"fee_per_mille": 14, "fee_fixed_minor": 30, "dispute_fee_minor": 1_500, "keep_balance": True}
NETWORK = {"notify_own": True, "notify_twice_per_mille": 100, "notify_shuffle_ms": 300, "latency_max_ms": 40}
REFUNDS = {
    "refund_refuse_per_mille": 120,
    "refund_fail_per_mille": 120,
    "refund_reverse_per_mille": 120,
    "refund_undo_ms": 1_000,
}
SEED = 20_260_701


class Provider:
    """The provider's side of the day."""

    def __init__(self, channel: grpc.aio.Channel, random: Random) -> None:
        self._stub: Any = SimProviderServiceStub(channel)
        self._random = random
        #: References of our holds on which people acted, by kind; and the disputes that were opened.
        self.by_hand: dict[str, list[str]] = {"refund": [], "capture": [], "cancel": []}
        self.disputes: list[str] = []
        self.foreign: list[str] = []

    async def behave(self, **behaviour: Any) -> None:
        """Sets the behaviour, with fees and notifications."""
        given = {**FEES, **NETWORK, "seed": SEED, **behaviour}
        await self._stub.Configure(pb.ConfigureRequest(behaviour=pb.Behaviour(**given)), timeout=CALL_S)

    async def statement(self) -> list[pb.StatementEntry]:
        """The statement's lines of our deployment."""
        return [one async for one in self._stub.ExportStatement(pb.ExportStatementRequest()) if one.environment == OURS]

    async def balance(self) -> list[pb.BalanceTransaction]:
        """All changes of the account's balance, those of the other deployment included."""
        return [one async for one in self._stub.ExportBalance(pb.ExportBalanceRequest())]

    async def trade_elsewhere(self, count: int) -> None:
        """Another deployment holds and takes money on the same account."""
        for _ in range(count):
            order = str(uuid4())
            held = await self._stub.Authorise(
                pb.AuthoriseRequest(
                    key=f"{order}:authorise:1",
                    order=order,
                    group=str(uuid4()),
                    payment_method="card_ok",
                    amount_minor=self._random.randint(500, 9_000),
                    currency="CNY",
                    environment=FOREIGN,
                ),
                timeout=CALL_S,
            )
            self.foreign.append(held.hold)
            taken = pb.CaptureRequest(key=f"{order}:capture:1", hold=held.hold, amount_minor=held.amount_minor)
            await self._stub.Capture(taken, timeout=CALL_S)

    async def operate(self, kind: str, count: int) -> None:
        """A person refunds, captures or cancels `count` payments in the dashboard."""
        named = {
            "refund": pb.EXTERNAL_KIND_REFUND,
            "capture": pb.EXTERNAL_KIND_CAPTURE,
            "cancel": pb.EXTERNAL_KIND_CANCEL,
        }
        touched = {hold for holds in self.by_hand.values() for hold in holds}
        wanted = count
        for entry in self._shuffled(await self.statement()):
            kept = entry.captured_minor - entry.refunded_minor
            fits = kept > 1 and not entry.disputes if kind == "refund" else entry.open_minor > 0
            if not wanted or not fits or entry.hold in touched:
                continue
            part = kept // 2 if kind == "refund" and wanted % 2 else 0
            request = pb.OperateByHandRequest(hold=entry.hold, kind=named[kind], amount_minor=part)
            if await self._unless_too_late(self._stub.OperateByHand, request) is None:
                continue
            self.by_hand[kind].append(entry.hold)
            wanted -= 1

    async def dispute(self, count: int) -> None:
        """Customers dispute `count` charges at their bank."""
        touched = {hold for holds in self.by_hand.values() for hold in holds}
        for entry in self._shuffled(await self.statement()):
            kept = entry.captured_minor - entry.refunded_minor
            if len(self.disputes) == count:
                return
            if kept > 0 and entry.hold not in touched and not entry.disputes and entry.wire == "simulated":
                opened = await self._unless_too_late(self._stub.OpenDispute, pb.OpenDisputeRequest(hold=entry.hold))
                if opened is not None:
                    self.disputes.append(opened.dispute)

    async def decide_disputes(self, won: int, lost: int) -> None:
        """The bank decides the first disputes; the others stay open."""
        states = [pb.DISPUTE_STATE_WON] * won + [pb.DISPUTE_STATE_LOST] * lost
        for dispute, state in zip(self.disputes, states, strict=False):
            await self._stub.UpdateDispute(pb.UpdateDisputeRequest(dispute=dispute, state=state), timeout=CALL_S)

    async def pay_out(self) -> int:
        """Pays the whole balance out to the bank. Returns the number of payouts."""
        return len((await self._stub.PayOut(pb.PayOutRequest(), timeout=CALL_S)).payouts)

    async def _unless_too_late(self, call: Any, request: Any) -> Any:
        """The answer of a call; None if our own call was faster."""
        try:
            return await call(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return None

    def _shuffled(self, entries: Iterable[pb.StatementEntry]) -> list[pb.StatementEntry]:
        found = sorted(entries, key=lambda one: one.order)
        self._random.shuffle(found)
        return found
