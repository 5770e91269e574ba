"""Notifications of the simulated provider: JSON with the fields of CallResult, signed with HMAC-SHA256."""

from __future__ import annotations

import time
from collections.abc import Callable

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from chassis.outside.signatures import Headers, check_hmac, single_header
from services.payments.providers.notifications import Claim, NotUnderstood, outcome_of_key, read_json
from services.payments.providers.simulator_client.mapping import set_result

HEADER = "simprovider-signature"
_FIELDS = ("hold", "amount_minor", "currency", "capturable_until_ms", "reason", "action_url")


class SimulatorWebhooks:
    """Reader of the simulated provider's notifications. See WebhookReader."""

    def __init__(self, secret: str, now_s: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now_s = now_s

    def read(self, headers: Headers, body: bytes) -> Claim | None:
        """The claim of a notification. Raises BadSignature, NotUnderstood."""
        check_hmac(single_header(headers, HEADER), self._secret, body, self._now_s())
        event = read_json(body)
        outcome = outcome_of_key(event["key"])
        if outcome is None:
            raise NotUnderstood(f"unknown idempotency key {str(event['key'])[:80]!r}")
        fields = {name: event[name] for name in _FIELDS}
        set_result(outcome, pb.CallResult(key=event["key"], status=pb.Status.Value(event["status"]), **fields))
        return str(event["group"]), outcome
