"""Every member of a group learns who owns what; one that comes back at another address has the group told of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from yarl import URL

from eventlog.ownership import Assignor, url_of

TOPIC = "shop.inbox.v1"


class Cluster:
    """A topic of four partitions."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == TOPIC
        return set(range(4))


class Member:
    """A member of a group, as far as an assignor looks at it."""

    def __init__(self, address: str) -> None:
        self.rejoins = 0
        tables = SimpleNamespace(changelog_topics=set(), data={})
        conf = SimpleNamespace(canonical_url=URL(url_of(address)))
        sensors = SimpleNamespace(
            on_assignment_start=lambda *_: None,
            on_assignment_completed=lambda *_: None,
            on_assignment_error=lambda *_: None,
        )
        app = SimpleNamespace(tables=tables, conf=conf, tracer=None, sensors=sensors, consumer=self)
        self.assignor = Assignor(cast(Any, app))

    def join_again(self) -> None:
        self.rejoins += 1


def assigned(**members: Member) -> dict[str, ConsumerProtocolMemberAssignment]:
    """What the first of them assigns to all."""
    leader = next(iter(members.values()))
    metadata = {name: member.assignor.metadata({TOPIC}) for name, member in members.items()}
    made: dict[str, ConsumerProtocolMemberAssignment] = leader.assignor.assign(cast(Any, Cluster()), metadata)
    return made


def test_every_member_learns_the_owner_of_every_partition() -> None:
    first, second = Member("Groups-0:50052"), Member("[::1]:80")
    for name, assignment in assigned(first=first, second=second).items():
        {"first": first, "second": second}[name].assignor.on_assignment(assignment)
    owners = [first.assignor.owner(TOPIC, partition, "Groups-0:50052") for partition in range(4)]
    assert sorted(owners) == ["Groups-0:50052", "Groups-0:50052", "[::1]:80", "[::1]:80"]
    # Names are told in lower case; one's own comes back as it was given.
    theirs = [second.assignor.owner(TOPIC, partition, "[::1]:80") for partition in range(4)]
    assert [owner.lower() for owner in owners] == theirs
    assert first.rejoins == second.rejoins == 0
    mine = {tp.partition for tp in second.assignor.assigned_actives()}
    assert mine == {partition for partition in range(4) if owners[partition] == "[::1]:80"}


def test_nobody_owns_what_was_not_assigned_yet() -> None:
    member = Member("h:1")
    assert member.assignor.owner(TOPIC, 0, "h:1") == ""
    member.assignor.on_assignment(assigned(member=member)["member"])
    assert member.assignor.owner(TOPIC, 0, "h:1") == "h:1"
    assert member.assignor.owner(TOPIC, 4, "h:1") == ""
    assert member.assignor.owner("another", 0, "h:1") == ""


def test_who_comes_back_at_another_address_is_assigned_again() -> None:
    # A static member is handed the assignment that it left: Faust would end the process here.
    left = assigned(member=Member("h:1"))["member"]
    back = Member("h:2")
    back.assignor.on_assignment(left)
    assert back.rejoins == 1
    assert {tp.partition for tp in back.assignor.assigned_actives()} == {0, 1, 2, 3}
    # It joins with what it was assigned, which the broker takes for a change, and with its new address.
    back.assignor.on_assignment(assigned(member=back)["member"])
    assert back.rejoins == 1
    assert back.assignor.owner(TOPIC, 3, "h:2") == "h:2"
