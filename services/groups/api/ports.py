"""What the groups API needs of the rest of the process. The wiring gives it; tests give their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.core.aggregate import Aggregate
from eventlog.views.view import View
from services.groups.domain.model import State


class OpenGroup(Protocol):
    """An open group in the order of the list."""

    @property
    def seats_left(self) -> int:
        """Free seats, at least 1."""
        ...

    @property
    def deadline_ms(self) -> int:
        """When it closes at the latest, in milliseconds since the epoch."""
        ...

    @property
    def group(self) -> str:
        """Its id."""
        ...


class GroupsView(View[Aggregate[State]], Protocol):
    """The group decider's table, and which groups of a campaign are open."""

    def nearest(
        self, campaign: str, after: tuple[int, int, str] | None, limit: int, partitions: Collection[int] | None, /
    ) -> Sequence[OpenGroup]:
        """At most so many open groups of a campaign that come after (seats left, deadline in ms, id), nearest to full
        first: of some partitions, or of all. Raises NotReady where not all groups of these are known here."""
        ...


class Campaigns(Protocol):
    """Campaigns by id, as the campaigns' topic has them."""

    def find(self, key: str, /) -> Campaign | None:
        """A campaign as far as the topic has been read."""
        ...

    async def get_latest(self, key: str, /) -> Campaign | None:
        """A campaign; None only when the topic, read to its present end, has none. Raises BrokerUnavailable."""
        ...

    async def refresh(self) -> None:
        """Returns when everything is read that was in the topic at the call. Raises BrokerUnavailable."""
        ...

    def values(self) -> list[Campaign]:
        """All campaigns as far as the topic has been read."""
        ...
