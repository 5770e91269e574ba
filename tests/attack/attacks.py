"""The attacks. Each is bounded in number and time, over loopback, with the credentials of one identity or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.attack.access import garbage, kafka_rights, not_allowed, strangers
from tests.attack.costly_calls import (
    broken_items,
    closed_groups,
    forged_tokens,
    long_lists,
    pictures,
    unknown_campaigns,
)
from tests.attack.hostile_peers import (
    forged_webhooks,
    half_webhooks,
    reset_flood,
    silent_connections,
    unfinished_messages,
    unread_answers,
)
from tests.attack.outcome import Outcome
from tests.attack.site import Site


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack, and the part of its attempts that must be refused."""

    run: Callable[[Site, float], Awaitable[Outcome]]
    min_refused: float


ATTACKS: dict[str, Attack] = {
    one.run.__name__: one
    for one in (
        Attack(broken_items, 1.0),
        Attack(forged_tokens, 1.0),
        # The first ten batches are accepted.
        Attack(closed_groups, 0.7),
        Attack(long_lists, 0.3),
        Attack(pictures, 0.5),
        Attack(unknown_campaigns, 1.0),
        Attack(unfinished_messages, 1.0),
        Attack(unread_answers, 1.0),
        Attack(silent_connections, 1.0),
        Attack(reset_flood, 0.5),
        Attack(not_allowed, 1.0),
        Attack(garbage, 1.0),
        Attack(strangers, 1.0),
        Attack(half_webhooks, 1.0),
        Attack(forged_webhooks, 1.0),
        Attack(kafka_rights, 1.0),
    )
}
