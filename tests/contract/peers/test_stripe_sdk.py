"""Webhook signatures of Stripe's own SDK and ours verify each other.

Method: the SDK signs as its users' tests do and our reader verifies; the simulator signs and the SDK verifies, which is
what it does in a shop's server.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import stripe
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from pydantic import SecretStr

from chassis.outside.signatures import BadSignature
from services.payments.providers.stripe.webhooks import StripeWebhooks
from simulators.psp.accounts.account_book import AccountBook
from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.accounts.holds import Change, authorise
from simulators.psp.notifications.notifier import Notifier
from simulators.psp.notifications.outbox import Notice, QueuedNotice
from simulators.psp.request_handler import RequestHandler
from simulators.psp.settings import Settings
from simulators.psp.stripe import events
from simulators.psp.wechat.signer import Signer

SECRET = "whsec_of_the_shop"
ORDER = "11111111-1111-4111-8111-111111111111"
REQUEST = pb.AuthoriseRequest(
    key=f"{ORDER}:authorise:1",
    order=ORDER,
    group="g",
    payment_method="stripe/pm_card_ok",
    amount_minor=8900,
    currency="EUR",
)


def event_body() -> str:
    """The body of an event about a hold."""
    hold, result = authorise(REQUEST, 1_700_000_000_000, 1_000)
    return json.dumps(events.event(Change(REQUEST, result, hold, 1_700_000_000_000)))


def signed_by_sdk(body: str, at_s: int, secret: str = SECRET) -> str:
    """The header that the SDK computes for a body. It has no public function for that; its own tests call this one."""
    signature = stripe.WebhookSignature._compute_signature(f"{at_s}.{body}", secret)
    return f"t={at_s},v1={signature}"


def read(header: str, body: str) -> Any:
    return StripeWebhooks(lambda: (SECRET,)).read([("Stripe-Signature", header)], body.encode())


def test_our_reader_accepts_what_the_sdk_signs() -> None:
    body = event_body()
    group, outcome = read(signed_by_sdk(body, int(time.time())), body)
    assert (group, outcome.order) == ("g", ORDER)
    assert outcome.origin == i.OUTCOME_ORIGIN_NOTIFICATION
    assert outcome.authorised.amount_minor == 8900


def test_our_reader_and_the_sdk_refuse_the_same() -> None:
    body, now_s = event_body(), int(time.time())
    for header, received in (
        (signed_by_sdk(body, now_s, "whsec_another"), body),
        (signed_by_sdk(body, now_s - 3_600), body),
        (signed_by_sdk(body, now_s), body.replace("8900", "8901")),
    ):
        with pytest.raises(BadSignature):
            read(header, received)
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(received, header, SECRET)


def test_the_sdk_accepts_what_the_simulator_signs(tmp_path: Path, wechat_keys: Path) -> None:
    settings = Settings(database=tmp_path / "books.sqlite", stripe_webhook_secret=SecretStr(SECRET))
    book = AccountBook(settings.database, lambda: 1_700_000_000_000)
    commit = GroupCommit(book)
    handler = RequestHandler(book, commit, lambda: 1_700_000_000_000, pb.Behaviour())
    notifier = Notifier(settings, handler, commit, Signer(wechat_keys))
    hold, result = authorise(REQUEST, 1_700_000_000_000, 1_000)
    (notice,) = notifier.notices(Change(REQUEST, result, hold, 1_700_000_000_000))
    body, headers = notifier.signed(queued(notice))
    event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET)
    assert event["type"] == "payment_intent.amount_capturable_updated"
    assert event["data"]["object"]["metadata"]["order"] == ORDER
    book.close()


def queued(notice: Notice) -> QueuedNotice:
    return QueuedNotice(1, notice.due_ms, 0, notice.wire, notice.body)
