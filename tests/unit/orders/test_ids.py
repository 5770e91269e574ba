"""Ids and digests depend on the request alone."""

from __future__ import annotations

import pytest
from groupbuy.orders.v1.orders_pb2 import WAIT_ACCEPTED, PlaceOrderRequest

from services.orders.domain.ids import OrderName, group_id, is_id, order_id, parse_order_name, request_digest
from tests.unit.orders.world import OTHER, REQUEST, place_request


def request(**changes: object) -> PlaceOrderRequest:
    return place_request(**{"quantity": 1} | changes)


def test_ids_do_not_change_between_versions() -> None:
    group = group_id("ann", REQUEST)
    assert group == "2e56554c-9037-5aa3-af60-fe19308df859"
    assert order_id(group, "ann", REQUEST) == "a8b6987b-2b27-519f-8489-d40239791354"


def test_another_customer_or_request_opens_another_group() -> None:
    assert len({group_id("ann", REQUEST), group_id("bob", REQUEST), group_id("ann", OTHER)}) == 3


def test_a_request_id_means_another_order_in_another_group() -> None:
    one, two = group_id("ann", REQUEST), group_id("bob", REQUEST)
    assert order_id(one, "cid", REQUEST) != order_id(two, "cid", REQUEST)


def test_only_one_spelling_of_a_uuid_is_an_id() -> None:
    good = group_id("ann", REQUEST)
    assert is_id(good)
    assert not any(map(is_id, ["", good.upper(), good.replace("-", ""), "-" * 36, f"{{{good}}}", "a" * 36]))


def test_an_order_name_is_its_two_ids() -> None:
    assert parse_order_name("groups/a/orders/b") == OrderName("a", "b")
    assert str(OrderName("a", "b")) == "groups/a/orders/b"
    for wrong in ("", "groups/a", "groups/a/orders", "orders/b/groups/a", "groups/a/orders/b/payment"):
        with pytest.raises(ValueError, match="groups/"):
            parse_order_name(wrong)


def test_the_wait_is_not_part_of_the_payload() -> None:
    assert request_digest(request(wait=WAIT_ACCEPTED)) == request_digest(request())
    assert request_digest(request(request_id=OTHER)) == request_digest(request())


@pytest.mark.parametrize(
    "change",
    [
        {"customer": "bob"},
        {"campaign": "campaigns/cup"},
        {"group": "groups/x"},
        {"solo": True},
        {"quantity": 2},
        {"currency": "EUR"},
        {"max_unit_price_minor": 8901},
        {"payment_method": "card_other"},
    ],
)
def test_every_other_field_is_part_of_the_payload(change: dict[str, object]) -> None:
    assert request_digest(request(**change)) != request_digest(request())


def test_the_digest_leaves_the_request_alone() -> None:
    place_request = request(wait=WAIT_ACCEPTED)
    request_digest(place_request)
    assert place_request == request(wait=WAIT_ACCEPTED)
