"""Sends the notices of the outbox to the merchant, signed as their wire requires, until they are acknowledged.

Delivery is at least once and unordered. By configuration notices are duplicated, delayed and shuffled.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.details import by_hand
from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.accounts.holds import Change
from simulators.psp.accounts.incidents import Dispute
from simulators.psp.accounts.statement_entries import OWN, wire_of
from simulators.psp.notifications.outbox import Notice, QueuedNotice
from simulators.psp.request_handler import RequestHandler
from simulators.psp.settings import Settings
from simulators.psp.stripe import events as stripe_events
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.wechat import objects as wechat_objects
from simulators.psp.wechat.signer import Signer

#: Notices sent at once.
MAX_BATCH = 64
POLL_INTERVAL_S = 0.05
#: Seconds for one delivery.
DELIVERY_S = 5.0
#: Pauses between deliveries of a notice: the first one, doubling up to the maximum.
FIRST_PAUSE_MS = 1_000
MAX_PAUSE_MS = 60_000
#: Statuses of changes that no call has made.
INCIDENTS = frozenset(status for status in pb.Status.values() if status >= pb.STATUS_REFUND_FAILED)
_EVENTS: Mapping[str, Callable[[Change], dict[str, Any] | None]] = {
    stripe_objects.WIRE: stripe_events.event,
    wechat_objects.WIRE: wechat_objects.event,
}


def own_event(change: Change) -> dict[str, Any]:
    """The notification of a change in this provider's own format."""
    result, hold = change.result, change.hold
    event = {
        "key": result.key,
        "group": hold.group if hold is not None else change.request.group,
        "status": pb.Status.Name(result.status),
        "hold": result.hold,
        "amount_minor": result.amount_minor,
        "currency": result.currency,
        "capturable_until_ms": result.capturable_until_ms,
        "reason": result.reason,
        "action_url": result.action_url,
    }
    if isinstance(change.request, Dispute):
        event["dispute_state"] = pb.DisputeState.Name(change.request.state)
        event["evidence_due_ms"] = change.request.evidence_due_ms
        event["withdrawn_minor"] = change.request.amount_minor if change.request.takes_money else 0
        event["fee_minor"] = change.request.fee_minor
    if hold is not None and (result.status in INCIDENTS or by_hand(result.key) or change.environment):
        # No key of the merchant's names the order here.
        event |= {"order": hold.order, "environment": change.environment, "by_hand": by_hand(result.key)}
    return event


class Notifier:
    """Sends notifications to `{notify_url}/{wire}`."""

    def __init__(self, settings: Settings, handler: RequestHandler, group_commit: GroupCommit, signer: Signer) -> None:
        self._settings = settings
        self._handler = handler
        self._group_commit = group_commit
        self._signer = signer
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts sending if a notify URL is configured."""
        if self._settings.notify_url:
            self._handler.book.notices = self.notices
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stops. Undelivered notices are sent after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def notices(self, change: Change) -> Iterable[Notice]:
        """The copies of a change's notification with their times. Runs in the thread that writes the account book."""
        method = change.hold.payment_method if change.hold is not None else change.request.payment_method
        wire = wire_of(method)
        if wire == OWN and not self._handler.faults.behaviour.notify_own:
            return
        event = _EVENTS.get(wire, own_event)(change)
        if event is None:
            return
        body = json.dumps(event, ensure_ascii=False)
        name = f"{wire}/{change.result.key}/{change.result.status}"
        for delay_ms in self._handler.faults.notice_delays_ms(name, change.at_ms):
            yield Notice(change.at_ms + delay_ms, wire, body)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=DELIVERY_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                due = await self._group_commit.run(self._due)
                if due:
                    await self._send_all(session, due)
                if len(due) < MAX_BATCH:
                    await asyncio.sleep(POLL_INTERVAL_S)

    def _due(self) -> Sequence[QueuedNotice]:
        return self._handler.book.outbox.due(self._handler.now_ms, MAX_BATCH)

    async def _send_all(self, session: aiohttp.ClientSession, due: Sequence[QueuedNotice]) -> None:
        acknowledged = await asyncio.gather(*(self._send(session, one) for one in due))
        delivered = [one.id for one, good in zip(due, acknowledged, strict=True) if good]
        retries = [
            (one.id, self._handler.now_ms + min(FIRST_PAUSE_MS << min(one.tries, 10), MAX_PAUSE_MS))
            for one, good in zip(due, acknowledged, strict=True)
            if not good
        ]
        await self._group_commit.run(lambda: self._handler.book.outbox.update(delivered, retries))

    async def _send(self, session: aiohttp.ClientSession, notice: QueuedNotice) -> bool:
        body, headers = self.signed(notice)
        headers["Content-Type"] = "application/json"
        try:
            async with session.post(f"{self._settings.notify_url}/{notice.wire}", data=body, headers=headers) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False

    def signed(self, notice: QueuedNotice) -> tuple[bytes, dict[str, str]]:
        """The body to send, and the headers that sign it."""
        body = notice.body.encode()
        if notice.wire == wechat_objects.WIRE:
            event = json.loads(notice.body)
            encrypted = self._signer.encrypt(event["kind"], event["name"], event["plain"])
            return encrypted, self._signer.sign(encrypted)
        stripe = notice.wire == stripe_objects.WIRE
        secret = self._settings.stripe_webhook_secret if stripe else self._settings.notify_secret
        at = str(int(time.time()))
        digest = hmac.new(secret.get_secret_value().encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return body, {"Stripe-Signature" if stripe else "Simprovider-Signature": f"t={at},v1={digest}"}
