"""The invitation of a link is in the decision that reserves the seat. A tree of invitations is built from decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND, SHARE_CHANNEL_MOMENTS, Invitation
from rich.console import Console

from ops.log.invites import invites_of, report, tree
from shared_kernel.share_links.share_link_api import invitation
from shared_kernel.share_links.share_link_token import Keys, Link, Verified, link_id
from tests.scenarios.facts import GROUP
from tests.scenarios.groups import Group, campaign, cancels, given, joins, opens

KEYS = Keys({"k": bytes(32)})
FIRST = Link("ann", SHARE_CHANNEL_FRIEND, 1, 2, group=GROUP)


def invitation_of(link: Link) -> Invitation:
    return invitation(Verified(link, link_id(link)))


def forward(link: Link, inviter: str, channel: int = SHARE_CHANNEL_MOMENTS) -> Link:
    return replace(link, inviter=inviter, channel=channel, depth=link.depth + 1, parent=link_id(link))


def decisions(group: Group) -> list[GroupDecision]:
    return [GroupDecision.FromString(value) for value in group.log]


def test_the_reservation_has_the_invitation_of_the_member() -> None:
    group = given(opens("a", invitation=invitation_of(FIRST)), joins("b"))
    (first, *_), (second, *_) = (
        [one.seat_reserved for one in decision.events if one.HasField("seat_reserved")] for decision in decisions(group)
    )
    assert first.invitation == invitation_of(FIRST)
    assert not second.HasField("invitation")


def test_the_waitlist_keeps_the_invitation() -> None:
    group = given(opens("a", campaign(capacity=2, tiers=campaign().tiers[:1], waitlist=True)), joins("b"))
    group.when(joins("c", invitation=invitation_of(FIRST)), joins("d")).then("seat_waitlisted c", "seat_waitlisted d")
    assert group.events[0].seat_waitlisted.invitation == invitation_of(FIRST)
    group.when(cancels("b"))
    (seat,) = (event.seat_reserved for event in group.events if event.HasField("seat_reserved"))
    assert (seat.order, seat.invitation) == ("c", invitation_of(FIRST))
    found = invites_of(decisions(group))
    assert [(link.inviter, [one.order for one in link.orders]) for link in found.links] == [("ann", ["c"])]


def test_a_tree_five_links_deep_is_folds_log_from_the_log_alone() -> None:
    chain = [FIRST]
    people = ["bea", "cyd", "dan", "eva", "fay"]
    for person in people[:-1]:
        chain.append(forward(chain[-1], person))
    side = forward(chain[1], "bea", channel=77)
    group = given(opens("a", campaign(capacity=10), customer="ann"))
    for person, link in zip(people, chain, strict=True):
        group.when(joins(f"order-{person}", customer=person, invitation=invitation_of(link)))
    group.when(joins("order-gus", customer="gus", invitation=invitation_of(side)))
    group.when(joins("order-hal", customer="hal", invitation=invitation_of(chain[0])))

    found = report(GROUP, invites_of(decisions(group)))

    assert (found["depth"], found["invited"]) == (5, 7)
    assert found["uninvited"] == [{"order": "a", "customer": "ann"}]
    level = found["links"]
    for depth, (person, link) in enumerate(zip(people, chain, strict=True), 1):
        node = level[0]
        assert node["link"] == link_id(link)
        assert node["inviter"] == ("ann", *people)[depth - 1]
        assert node["channel"] == ("friend" if depth == 1 else "moments")
        assert (node["depth"], node["orders"][0]["customer"]) == (depth, person)
        level = node["forwards"]
    assert level == []
    other = found["links"][0]["forwards"][0]["forwards"][1]
    assert (other["channel"], other["orders"][0]["customer"]) == ("channel 77", "gus")
    assert [one["customer"] for one in found["links"][0]["orders"]] == ["bea", "hal"]
    json.dumps(found)
    out = StringIO()
    Console(file=out, width=100).print(tree(GROUP, invites_of(decisions(group))))
    for person in [*people, "ann", "gus", "hal"]:
        assert person in out.getvalue()


def test_a_link_without_orders_is_placed_by_its_forwards() -> None:
    third = forward(forward(FIRST, "bea"), "cyd")
    group = given(opens("a"), joins("b", customer="dan", invitation=invitation_of(third)))
    found = invites_of(decisions(group))
    (above,) = found.links
    assert (above.link, above.inviter, above.depth) == (third.parent, "", 2)
    assert [(one.inviter, one.depth) for one in above.forwards] == [("cyd", 3)]


def test_duplicate_decisions_count_once() -> None:
    group = given(opens("a", invitation=invitation_of(FIRST)), joins("b", invitation=invitation_of(FIRST)))
    once = decisions(group)
    assert report(GROUP, invites_of([*once, *once])) == report(GROUP, invites_of(once))


def test_the_longest_chain_is_printed() -> None:
    link = FIRST
    group = given(opens("a", campaign(capacity=2000)))
    for number in range(2, 101):
        link = forward(link, f"p{number}")
        group.when(joins(f"o{number}", invitation=invitation_of(link)))
    found = invites_of(decisions(group))
    assert found.depth == 100
    json.dumps(report(GROUP, found))
    Console(file=StringIO(), width=400).print(tree(GROUP, found))
