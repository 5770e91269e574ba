"""`invites`: the tree of invitations of a group, link by link, from the group's decisions alone.

A link without orders is known only by its id, from the links that forward it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision, SeatReserved, SeatWaitlisted
from groupbuy.links.v1.links_pb2 import ShareChannel
from rich.text import Text
from rich.tree import Tree

from eventlog.core.partitioner import partition_of
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.reader import Reader, skips
from ops.log.rendering.describe import short
from ops.log.show import group_key
from ops.terminal.output import Json, Output
from ops.terminal.printing import printable
from ops.where import Kafka, broker
from shared_kernel.topics import GROUP_LOG


@dataclass(slots=True)
class Order:
    """An order with a seat or a waitlist entry."""

    order: str
    customer: str


@dataclass(slots=True)
class Shared:
    """A link with its orders and the links that forward it."""

    link: str
    #: Empty, with an unknown channel, if the link itself has no orders.
    inviter: str = ""
    channel: str = ""
    depth: int = 0
    parent: str = ""
    orders: list[Order] = field(default_factory=list)
    forwards: list[Shared] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The link with its orders and forwards."""
        return {
            "link": self.link,
            "inviter": self.inviter,
            "channel": self.channel,
            "depth": self.depth,
            "orders": [{"order": one.order, "customer": one.customer} for one in self.orders],
            "forwards": [one.as_json() for one in self.forwards],
        }


@dataclass(slots=True)
class Invites:
    """The invitations of one group."""

    #: Orders without a link.
    uninvited: list[Order] = field(default_factory=list)
    #: Links that forward no other link, by the time of their first order.
    links: list[Shared] = field(default_factory=list)
    #: Orders with a link.
    invited: int = 0
    #: The number of links in the longest chain.
    depth: int = 0


def invites_of(decisions: Iterable[GroupDecision]) -> Invites:
    """The invitations of a group, from its decisions in the order of the log. Ignores duplicates."""
    found = Invites()
    links: dict[str, Shared] = {}
    seen: set[str] = set()
    version = 0
    for decision in decisions:
        if decision.version <= version:
            continue
        version = decision.version
        for event in decision.events:
            body = event.WhichOneof("body")
            seated = getattr(event, body) if body in {"seat_reserved", "seat_waitlisted"} else None
            # An order from the waitlist has its second event here.
            if seated is not None and seated.order not in seen:
                seen.add(seated.order)
                _take(found, links, seated)
    for link in links.values():
        (links[link.parent].forwards if link.parent else found.links).append(link)
    found.depth = max((link.depth for link in links.values()), default=0)
    return found


def _take(found: Invites, links: dict[str, Shared], seated: SeatReserved | SeatWaitlisted) -> None:
    order = Order(seated.order, seated.customer)
    if not seated.HasField("invitation"):
        found.uninvited.append(order)
        return
    invitation = seated.invitation
    # The forwarded link first, so that a link's parent exists.
    if invitation.parent_link_id:
        links.setdefault(invitation.parent_link_id, Shared(invitation.parent_link_id, depth=invitation.depth - 1))
    link = links.setdefault(invitation.link_id, Shared(invitation.link_id))
    link.inviter, link.channel = invitation.inviter, _channel(invitation.channel)
    link.depth, link.parent = invitation.depth, invitation.parent_link_id
    link.orders.append(order)
    found.invited += 1


def _channel(channel: int) -> str:
    if channel in ShareChannel.values():
        return ShareChannel.Name(channel).removeprefix("SHARE_CHANNEL_").lower()  # type: ignore[arg-type]
    return f"channel {channel}"


def invites(
    group: Annotated[str, typer.Argument(help="groups/{group}")], kafka: Kafka = None, json: Json = False
) -> None:
    """Prints who invited whom into a group: links, their forwards, and their orders.

    Reads the group's partition of the group decisions.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such group.

    Example: groupbuy-ops invites groups/5d7c9f3e-0000-4000-8000-000000000001
    """
    key, address, out = group_key(group), broker(kafka), Output(json)
    found = at_broker(address, lambda: _read(address, key))
    if not found.invited and not found.uninvited:
        raise cannot_run(f"group not found: the topics at {address} have no order of groups/{key}")
    out.record(report(key, found))
    out.show(tree(key, found))


def report(key: str, found: Invites) -> dict[str, Any]:
    """The invitations as JSON."""
    return {
        "group": f"groups/{key}",
        "invited": found.invited,
        "depth": found.depth,
        "uninvited": [{"order": one.order, "customer": one.customer} for one in found.uninvited],
        "links": [link.as_json() for link in found.links],
    }


def tree(key: str, found: Invites) -> Tree:
    """The invitations as a tree."""
    counted = f"{found.invited} orders through links, {len(found.uninvited)} without"
    root = Tree(Text(f"groups/{key}: {counted}, {found.depth} deep"))
    for order in found.uninvited:
        root.add(_words(order))
    pending = [(root, link) for link in reversed(found.links)]
    while pending:
        above, link = pending.pop()
        by = f"by {link.inviter}, {link.channel}" if link.inviter else "no orders"
        branch = above.add(Text(printable(f"link {link.link} {by}"), style="cyan"))
        for order in link.orders:
            branch.add(_words(order))
        pending.extend((branch, forward) for forward in reversed(link.forwards))
    return root


def _words(order: Order) -> Text:
    return Text(printable(f"{order.customer}, order {short(order.order)}"))


async def _read(kafka: str, key: str) -> Invites:
    async with Reader(kafka, [GROUP_LOG.name]) as reader:
        partitions = reader.partitions(GROUP_LOG.name)
    decisions: list[GroupDecision] = []

    def take(_topic: str, records: list[Any]) -> None:
        wanted = key.encode()
        for record in records:
            if record.key != wanted:
                continue
            try:
                decisions.append(GroupDecision.FromString(record.value))
            except DecodeError:
                place = f"{GROUP_LOG.name} {record.partition}:{record.offset}"
                raise cannot_run(f"the decision at {place} can't be decoded: see `groupbuy-ops verify`") from None

    one = [partition_of(key, partitions)]
    async with Reader(kafka, [GROUP_LOG.name], one, skipped=await skips(kafka)) as reader:
        await reader.read_to_end(take)
    return invites_of(decisions)
