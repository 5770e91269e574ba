"""GroupService: reads groups from the decider's view, and cancels them through their inbox.

The owner of a group's partition answers calls for it (chassis.routing.partition_router). The service changes no group:
a cancel is a record of the inbox, and the answer is the decision.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from groupbuy.groups.v1.groups_pb2 import (
    CancelGroupRequest,
    GetGroupRequest,
    Group,
    ListGroupsRequest,
    ListGroupsResponse,
    WatchGroupRequest,
)
from groupbuy.groups.v1.groups_pb2_grpc import GroupServiceServicer
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.rpc.pagination import Key, PageRequest, PageSize
from chassis.rpc.streaming.broadcast import Fanout, SharedMessage
from chassis.rpc.streaming.call_deadline import CallDeadline, wait_until
from chassis.rpc.trace_context import TraceStarter
from chassis.rpc.validation import invalid_field
from eventlog.core.aggregate import Aggregate
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Record
from eventlog.records.envelope import headers
from eventlog.runtime.wall_clock import wall_clock_ms
from services.groups.api import errors as refusals
from services.groups.api.mapping import PHASES, group_message
from services.groups.api.ports import GroupsView
from services.groups.domain.model import Phase, State
from services.groups.domain.terms import Terms
from shared_kernel.api_errors import group_not_found
from shared_kernel.topics import GROUP_INBOX

Context = grpc.aio.ServicerContext[Any, Any]

SOURCE = "/groupbuy/groups"
#: Seconds for the broker's acknowledgement, if the caller's deadline allows.
PUBLISH_S = 10.0


PAGE_SIZE = PageSize(default=20, limit=100)
#: Groups whose newest message is cached for their watchers.
MAX_RENDERED = 500
#: Orders of a group from which its message is cached for reads too.
MIN_CACHED_ORDERS = 100


class GroupServicer(GroupServiceServicer):
    """The service `groupbuy.groups.v1.GroupService`."""

    def __init__(
        self,
        view: GroupsView,
        publisher: RecordPublisher,
        now_ms: Callable[[], int] = wall_clock_ms,
        replicas: LocalRouter | None = None,
        trace_starter: TraceStarter | None = None,
    ) -> None:
        self._replicas = replicas or LocalRouter()
        self._view = view
        self._publisher = publisher
        self._now_ms = now_ms
        self._trace_starter = trace_starter or TraceStarter()
        self._fanout = Fanout(view.notifier)
        #: The newest version sent of each group.
        self._rendered: dict[str, tuple[int, SharedMessage[Group]]] = {}

    async def GetGroup(self, request: GetGroupRequest, context: Context) -> Group:
        """Reads a group."""
        group = _group_of(request.name)

        async def here() -> Group:
            aggregate, terms = self._require(group)
            state = aggregate.state
            if len(state.confirmed) + len(state.reserved) + len(state.waitlist) + len(state.ended) < MIN_CACHED_ORDERS:
                return group_message(aggregate, terms)
            # Rendered once for each version: 2,000 members take 200 KB.
            return self._shown(aggregate, terms).message

        return await self._replicas.call_owner("GetGroup", group, request, context, here)

    async def ListGroups(self, request: ListGroupsRequest, context: Context) -> ListGroupsResponse:
        """Lists the groups of a campaign that anyone can join, without their members."""
        size = PAGE_SIZE.of(request.page_size)
        campaign = request.campaign.removeprefix("campaigns/")
        paging = PageRequest(f"groups/{campaign}", (int, int, str), size, request.page_token)

        async def here(partitions: Partitions) -> ListGroupsResponse:
            found = self._view.nearest(campaign, _start_of(paging), size + 1, partitions)
            page = paging.page_of_sorted(list(found), lambda group: (group.seats_left, group.deadline_ms, group.group))
            groups = [group_message(*self._require(group.group), members=False) for group in page.items]
            return ListGroupsResponse(groups=groups, next_page_token=page.next_token)

        parts = await self._replicas.scatter_gather("ListGroups", request, context, here)
        if len(parts) == 1:
            return parts[0]
        more = any(part.next_page_token for part in parts)
        page = paging.merge((group for part in parts for group in part.groups), _rank, more=more)
        return ListGroupsResponse(groups=page.items, next_page_token=page.next_token)

    async def WatchGroup(  # type: ignore[override] # the request pipeline sends the message of a SharedMessage
        self, request: WatchGroupRequest, context: Context
    ) -> AsyncIterator[SharedMessage[Group]]:
        """Streams the group, then each change; changes in quick succession are sent as one. Ends with the last change.

        All watchers of a group get the same message, which is rendered and serialised once.
        """
        group = _group_of(request.name)
        async with aclosing(self._replicas.watch("WatchGroup", group, request, context, self._watch, _after)) as found:
            async for message in found:
                yield message if isinstance(message, SharedMessage) else SharedMessage(message)

    async def _watch(self, request: WatchGroupRequest) -> AsyncGenerator[SharedMessage[Group]]:
        group = _group_of(request.name)
        sent = request.from_version
        with self._fanout.follow(group) as watch:
            while True:
                aggregate, terms = self._require(group)
                # Read before the yield: the state can change while the message is sent.
                done = aggregate.state.is_done
                if aggregate.version > sent:
                    sent = aggregate.version
                    yield self._shown(aggregate, terms)
                if done:
                    return
                await watch.changed()

    def _shown(self, aggregate: Aggregate[State], terms: Terms) -> SharedMessage[Group]:
        known = self._rendered.get(aggregate.key)
        if known is not None and known[0] == aggregate.version:
            return known[1]
        shown = SharedMessage(group_message(aggregate, terms))
        if len(self._rendered) >= MAX_RENDERED:
            del self._rendered[next(iter(self._rendered))]
        self._rendered[aggregate.key] = (aggregate.version, shown)
        return shown

    async def CancelGroup(self, request: CancelGroupRequest, context: Context) -> Group:
        """Cancels a forming group and returns the decision."""
        group = _group_of(request.name)

        async def here() -> Group:
            return await self._cancel(group, request, CallDeadline(context))

        return await self._replicas.call_owner("CancelGroup", group, request, context, here)

    async def _cancel(self, group: str, request: CancelGroupRequest, deadline: CallDeadline) -> Group:
        aggregate, terms = self._require(group)
        if aggregate.state.phase is Phase.FORMING:
            await self._append_cancel(group, request, deadline)
            aggregate, terms = await self._wait_closed(group, deadline)
        if aggregate.state.phase is not Phase.CANCELLED:
            raise refusals.group_closed(group, PHASES[aggregate.state.phase])
        return group_message(aggregate, terms)

    def _require(self, group: str) -> tuple[Aggregate[State], Terms]:
        """An opened group and its terms. Raises ApiError GROUP_NOT_FOUND, and NotReady."""
        aggregate = self._view.get(group)
        if aggregate is None or aggregate.state.terms is None:
            raise group_not_found(group)
        return aggregate, aggregate.state.terms

    async def _append_cancel(self, group: str, request: CancelGroupRequest, deadline: CallDeadline) -> None:
        command = CancelGroupCommand(request_id=request.request_id, reason=request.reason)
        kind = CancelGroupCommand.DESCRIPTOR.full_name
        ce_id = f"{group}:cancel:{request.request_id}"
        record_headers = headers(ce_id, kind, SOURCE, self._now_ms(), f"groups/{group}")
        self._trace_starter.add_to(record_headers, group, SOURCE, ce_id)
        record = Record(group, GroupInput(cancel_group=command).SerializeToString(), record_headers)
        await self._publisher.publish(GROUP_INBOX.name, record, timeout_s=deadline.left_s(PUBLISH_S))

    async def _wait_closed(self, group: str, deadline: CallDeadline) -> tuple[Aggregate[State], Terms]:
        """Waits until the group has closed, which the cancel in its inbox guarantees."""

        def look() -> tuple[Aggregate[State], Terms] | None:
            found = self._require(group)
            return None if found[0].state.phase is Phase.FORMING else found

        try:
            return await wait_until(self._view.notifier, group, look, deadline.left_s())
        except TimeoutError:
            raise refusals.answer_pending(f"groups/{group}") from None


def _group_of(name: str) -> str:
    return name.removeprefix("groups/")


def _rank(group: Group) -> Key:
    """Position of a group in the list."""
    return group.seats_left, group.deadline_time.ToMilliseconds(), _group_of(group.name)


def _after(request: WatchGroupRequest, sent: SharedMessage[Group] | Group) -> WatchGroupRequest:
    """The request that continues after the last message sent."""
    group = sent.message if isinstance(sent, SharedMessage) else sent
    return WatchGroupRequest(name=request.name, from_version=group.version)


def _start_of(paging: PageRequest) -> tuple[int, int, str] | None:
    """Position after which a page begins. Raises ApiError INVALID_FIELDS for values that no group can have."""
    if paging.after is None:
        return None
    seats_left, deadline_ms, group = paging.after
    if not (0 <= int(seats_left) < 1 << 16 and 0 <= int(deadline_ms) < 1 << 63):
        raise invalid_field("page_token", "is not a next_page_token")
    return int(seats_left), int(deadline_ms), str(group)
