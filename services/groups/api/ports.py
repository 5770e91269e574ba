"""Interfaces that the groups API needs from the rest of the process. app.py and tests supply implementations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.core.aggregate import Aggregate
from eventlog.views.view import View
from services.groups.domain.model import State
from shared_kernel.campaign_table import FindsCampaigns


class OpenGroup(Protocol):
    """An open group and its position in the list."""

    @property
    def seats_left(self) -> int:
        """Free seats, at least 1."""
        ...

    @property
    def deadline_ms(self) -> int:
        """Deadline, in milliseconds since the epoch."""
        ...

    @property
    def group(self) -> str:
        """Id of the group."""
        ...


class GroupsView(View[Aggregate[State]], Protocol):
    """The group decider's view: groups by id, and the open groups of a campaign."""

    def nearest(
        self, campaign: str, after: tuple[int, int, str] | None, limit: int, partitions: Collection[int] | None, /
    ) -> Sequence[OpenGroup]:
        """At most `limit` open groups of a campaign after (seats left, deadline in ms, id), nearest to full first, from
        `partitions` or from all. Raises NotReady unless this process has all groups of these partitions."""
        ...


class Campaigns(FindsCampaigns, Protocol):
    """All campaigns."""

    async def refresh(self) -> None:
        """Reads the topic to the end that it has at the call. Raises BrokerUnavailable."""
        ...

    def values(self) -> list[Campaign]:
        """All campaigns in the part of the topic that was read."""
        ...
