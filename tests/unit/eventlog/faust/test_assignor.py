"""Every member learns the owner of every partition; a member that returns at another address announces it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

from eventlog.faust.group.assignor import Assignor, standbys_of, url_of

TOPIC = "shop.inbox.v1"
CHANGELOG = "shop.log.v1"


class Cluster:
    """Topics of four partitions."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic in {TOPIC, CHANGELOG}
        return set(range(4))


class Member:
    """The parts of a group member that an assignor uses."""

    def __init__(self, address: str, changelog: str = "") -> None:
        self.rejoins = 0
        self.topics = {TOPIC, changelog} - {""}
        tables = SimpleNamespace(changelog_topics={changelog} - {""}, data={})
        conf = SimpleNamespace(canonical_url=URL(url_of(address)))
        sensors = SimpleNamespace(
            on_assignment_start=lambda *_: None,
            on_assignment_completed=lambda *_: None,
            on_assignment_error=lambda *_: None,
        )
        app = SimpleNamespace(tables=tables, conf=conf, tracer=None, sensors=sensors, consumer=self)
        self.assignor = Assignor(cast(Any, app))

    def request_rejoin(self) -> None:
        self.rejoins += 1


def assigned(**members: Member) -> dict[str, ConsumerProtocolMemberAssignment]:
    """The assignment of all members by the first one."""
    leader = next(iter(members.values()))
    metadata = {name: member.assignor.metadata(member.topics) for name, member in members.items()}
    made: dict[str, ConsumerProtocolMemberAssignment] = leader.assignor.assign(cast(Any, Cluster()), metadata)
    return made


def test_every_member_learns_the_owner_of_every_partition() -> None:
    first, second = Member("Groups-0:50052"), Member("[::1]:80")
    for name, assignment in assigned(first=first, second=second).items():
        {"first": first, "second": second}[name].assignor.on_assignment(assignment)
    owners = [first.assignor.owner(TOPIC, partition, "Groups-0:50052") for partition in range(4)]
    assert sorted(owners) == ["Groups-0:50052", "Groups-0:50052", "[::1]:80", "[::1]:80"]
    # Addresses come back in lower case, except a member's own.
    theirs = [second.assignor.owner(TOPIC, partition, "[::1]:80") for partition in range(4)]
    assert [owner.lower() for owner in owners] == theirs
    assert first.rejoins == second.rejoins == 0
    mine = {tp.partition for tp in second.assignor.assigned_actives()}
    assert mine == {partition for partition in range(4) if owners[partition] == "[::1]:80"}


def test_an_unassigned_partition_has_no_owner() -> None:
    member = Member("h:1")
    assert member.assignor.owner(TOPIC, 0, "h:1") == ""
    member.assignor.on_assignment(assigned(member=member)["member"])
    assert member.assignor.owner(TOPIC, 0, "h:1") == "h:1"
    assert member.assignor.owner(TOPIC, 4, "h:1") == ""
    assert member.assignor.owner("another", 0, "h:1") == ""


def test_a_member_that_returns_at_another_address_requests_a_rebalance() -> None:
    # A static member receives its previous assignment. Faust would end the process here.
    left = assigned(member=Member("h:1"))["member"]
    back = Member("h:2")
    back.assignor.on_assignment(left)
    assert back.rejoins == 1
    assert {tp.partition for tp in back.assignor.assigned_actives()} == {0, 1, 2, 3}
    # It rejoins with its assignment, which the broker takes for a change, and with its new address.
    back.assignor.on_assignment(assigned(member=back)["member"])
    assert back.rejoins == 1
    assert back.assignor.owner(TOPIC, 3, "h:2") == "h:2"


def test_only_inputs_have_standbys_and_these_are_promoted_first() -> None:
    names = ["a:1", "b:1", "c:1"]
    members = {name: Member(name, changelog=CHANGELOG) for name in names}
    made = assigned(**members)
    owners: dict[int, str] = {}
    followers: dict[int, str] = {}
    for name, assignment in made.items():
        assignor = members[name].assignor
        # Raises if Faust got a changelog to follow.
        assignor.on_assignment(assignment)
        changelogs = {one for topic, some in assignment.assignment if topic == CHANGELOG for one in some}
        mine = {tp.partition for tp in assignor.assigned_actives() if tp.topic == TOPIC}
        assert changelogs == mine
        assert not {tp for tp in assignor.assigned_standbys() if tp.topic == CHANGELOG}
        owners.update(dict.fromkeys(mine, name))
        followers.update(dict.fromkeys(assignor.followed(TOPIC), name))
    assert set(owners) == set(followers) == set(range(4))
    assert all(owners[partition] != followers[partition] for partition in range(4))
    # The owner of partition 0 leaves.
    left = {partition for partition, owner in owners.items() if owner == owners[0]}
    stay = {name: member for name, member in members.items() if name != owners[0]}
    for name, assignment in assigned(**stay).items():
        stay[name].assignor.on_assignment(assignment)
        for partition in left & {tp.partition for tp in stay[name].assignor.assigned_actives()}:
            assert followers[partition] == name


def test_a_single_member_follows_nothing() -> None:
    member = Member("a:1", changelog=CHANGELOG)
    member.assignor.on_assignment(assigned(member=member)["member"])
    assert member.assignor.followed(TOPIC) == set()


def test_a_partition_that_an_earlier_build_assigned_to_faust_is_not_followed_twice() -> None:
    first, second = Member("a:1", changelog=CHANGELOG), Member("b:1", changelog=CHANGELOG)
    as_faust = PartitionAssignor._protocol_assignments
    first.assignor._protocol_assignments = lambda *given: as_faust(first.assignor, *given)  # type: ignore[method-assign]
    made = assigned(first=first, second=second)
    second.assignor.on_assignment(made["second"])
    assert {tp for tp in second.assignor.assigned_standbys() if tp.topic == CHANGELOG}
    assert second.assignor.followed(TOPIC) == set()


@pytest.mark.parametrize(("partitions", "members"), [(4, 2), (4, 3), (12, 3), (12, 5), (16, 7), (3, 5)])
def test_every_partition_of_a_leaving_member_has_a_follower_with_room(partitions: int, members: int) -> None:
    share = -(-partitions // members)
    actives = {f"m{n}": set(range(partitions)[n * share : (n + 1) * share]) for n in range(members)}
    before: dict[str, set[int]] = {member: set() for member in actives}
    followed = standbys_of(actives, before, 1)
    assert sorted(one for some in followed.values() for one in some) == list(range(partitions))
    for owner, mine in actives.items():
        assert not mine & followed[owner]
        left = -(-partitions // (members - 1))
        assert all(len(followed[one] & mine) + len(actives[one]) <= left for one in actives if one != owner)
    # The assignment is stable.
    assert standbys_of(actives, followed, 1) == followed


def test_several_standbys_are_different_members() -> None:
    actives = {"a": {0, 1}, "b": {2, 3}, "c": {4, 5}}
    nobody: dict[str, set[int]] = {member: set() for member in actives}
    assert standbys_of(actives, nobody, 2) == {"a": {2, 3, 4, 5}, "b": {0, 1, 4, 5}, "c": {0, 1, 2, 3}}
    assert standbys_of({"a": {0, 1}}, {"a": set()}, 1) == {"a": set()}
