"""Tells the merchant what happened: sends the notices of the outbox, signed as their wire wants, until they are taken.

At least once, in no order: as configured they come twice, late, and overtake each other. Must never forget a notice
that the merchant did not take.
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

from simulators.psp.outbox import Change, Kept, Notice
from simulators.psp.request_handler import Desk
from simulators.psp.settings import Settings
from simulators.psp.statement import OWN, wire_of
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.wechat import objects as wechat_objects
from simulators.psp.wechat.signer import Seal
from simulators.psp.writer import Writer

BATCH = 64
POLL_INTERVAL_S = 0.05
TRY_S = 5.0
FIRST_PAUSE_MS = 1_000
MAX_PAUSE_MS = 60_000
_EVENTS: Mapping[str, Callable[[Change], dict[str, Any] | None]] = {
    stripe_objects.WIRE: stripe_objects.event,
    wechat_objects.WIRE: wechat_objects.event,
}


def own_event(change: Change) -> dict[str, Any]:
    """A notification of this provider's own kind."""
    result, hold = change.result, change.hold
    return {
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


class Notifier:
    """Sends notifications to `{notify_url}/{wire}`."""

    def __init__(self, settings: Settings, desk: Desk, writer: Writer, seal: Seal | None) -> None:
        self._settings = settings
        self._desk = desk
        self._writer = writer
        self._seal = seal
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to send, where there is somebody to send to."""
        if self._settings.notify_url:
            self._desk.ledger.notices = self.notices
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends; what was not taken is sent after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def notices(self, change: Change) -> Iterable[Notice]:
        """The copies of the notification of a change, and when they are sent. In the thread that writes the books."""
        method = change.hold.payment_method if change.hold is not None else change.request.payment_method
        wire = wire_of(method)
        if wire == OWN and not self._desk.faults.behaviour.notify_own:
            return
        event = _EVENTS.get(wire, own_event)(change)
        if event is None:
            return
        body = json.dumps(event, ensure_ascii=False)
        for delay_ms in self._desk.faults.notice_delays_ms(f"{wire}/{change.result.key}/{change.result.status}"):
            yield Notice(change.at_ms + delay_ms, wire, body)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TRY_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                due = await self._writer.ask(lambda: self._desk.ledger.outbox.due(self._desk.now_ms, BATCH))
                if due:
                    await self._send_all(session, due)
                if len(due) < BATCH:
                    await asyncio.sleep(POLL_INTERVAL_S)

    async def _send_all(self, session: aiohttp.ClientSession, due: Sequence[Kept]) -> None:
        taken = await asyncio.gather(*(self._send(session, one) for one in due))
        done = [one.id for one, good in zip(due, taken, strict=True) if good]
        later = [
            (one.id, self._desk.now_ms + min(FIRST_PAUSE_MS << min(one.tries, 10), MAX_PAUSE_MS))
            for one, good in zip(due, taken, strict=True)
            if not good
        ]
        await self._writer.ask(lambda: self._desk.ledger.outbox.settle(done, later))

    async def _send(self, session: aiohttp.ClientSession, notice: Kept) -> bool:
        body, headers = self._signed(notice)
        headers["Content-Type"] = "application/json"
        try:
            async with session.post(f"{self._settings.notify_url}/{notice.wire}", data=body, headers=headers) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _signed(self, notice: Kept) -> tuple[bytes, dict[str, str]]:
        body = notice.body.encode()
        if notice.wire == wechat_objects.WIRE and self._seal is not None:
            event = json.loads(notice.body)
            sealed = self._seal.encrypted(event["kind"], event["name"], event["plain"])
            return sealed, self._seal.headers(sealed)
        stripe = notice.wire == stripe_objects.WIRE
        secret = self._settings.stripe_webhook_secret if stripe else self._settings.notify_secret
        at = str(int(time.time()))
        digest = hmac.new(secret.get_secret_value().encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return body, {"Stripe-Signature" if stripe else "Simprovider-Signature": f"t={at},v1={digest}"}
