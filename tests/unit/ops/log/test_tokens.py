"""Commands print the last four characters of a token. Method: messages of the log, as lines and as JSON."""

from __future__ import annotations

import json

import pytest
from groupbuy.groups.v1.decisions_pb2 import SeatReserved
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1.decisions_pb2 import (
    ActionRequired,
    HoldRequested,
    PaymentDecision,
    PaymentEvent,
    ProviderCall,
)
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from ops.log.rendering.decode import fields, words
from ops.log.rendering.tokens import shown_link, without_tokens

METHOD, LINK = "stripe_pm_1NirD82eZvKYlo2C", "stripe:pi_3Nir_secret_9mTq"


def test_neither_lines_nor_json_have_a_whole_token() -> None:
    call = PaymentEvent(hold_requested=HoldRequested(call=ProviderCall(order="o", payment_method=METHOD)))
    action = PaymentEvent(action_required=ActionRequired(order="o", action_url=LINK))
    outcome = ProviderOutcome(order="o", payment_method=METHOD)
    outcome.action_required.action_url = LINK
    messages = (
        OrderFact(order="o", customer="ann", placed=OrderPlaced(quantity=1, currency="EUR", payment_method=METHOD)),
        PaymentDecision(group="g", version=1, events=[call, action]),
        PaymentInput(outcome=outcome),
        SeatReserved(order="o", payment_method=METHOD),
    )
    for message in messages:
        before = message.SerializeToString()
        text = words(message, None) + json.dumps(fields(message), ensure_ascii=False)
        assert "pm_1Nir" not in text
        assert "pi_3Nir" not in text
        assert "…lo2C" in text or "…9mTq" in text
        assert message.SerializeToString() == before


def test_a_message_without_tokens_is_not_copied() -> None:
    message = PaymentDecision(group="g", version=1)
    assert without_tokens(message) is message


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("https://hooks.stripe.com/redirect/authenticate/src_1?secret=abcdefgh", "https://hooks.stripe.com/…efgh"),
        ("weixin://wxpay/bizpayurl?pr=NwY5Mz9", "weixin://wxpay/…5Mz9"),
        (LINK, "stripe:…9mTq"),
        ("the provider's page", "the provider's page"),
        ("", ""),
    ],
)
def test_a_link_is_shown_by_its_host_and_its_end(link: str, shown: str) -> None:
    assert shown_link(link) == shown
