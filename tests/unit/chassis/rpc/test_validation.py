"""Validation of requests by the rules of their protos: the order of checks, and the size of the error."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier, UpdateCampaignRequest
from groupbuy.orders.v1.orders_pb2 import BatchPlaceOrdersRequest, GetOrderRequest, PlaceOrderRequest
from groupbuy.payments.v1.payments_pb2 import NotificationHeader, NotifyPaymentRequest
from groupbuy.vendored import validate_pb2

from chassis.rpc import validation
from chassis.rpc.errors import MAX_FIELDS, ApiError
from protos.generate import DESCRIPTORS
from tests.unit.chassis.support import a_request, refusal, running


class Untouched:
    """Replaces protovalidate in tests in which it must not be called."""

    def collect_violations(self, message: Message) -> list[Any]:
        raise AssertionError("the items were checked")


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(validation, "_VALIDATOR", Untouched())
        yield


def wrong(request: Message) -> ApiError:
    with pytest.raises(ApiError) as caught:
        validation.validate(request)
    return caught.value


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("request_", "field", "most"),
    [
        (CreateCampaignRequest(campaign=Campaign(tiers=[Tier()] * 65_000)), "campaign.tiers", 20),
        (UpdateCampaignRequest(campaign=Campaign(tiers=[Tier()] * 65_000)), "campaign.tiers", 20),
        (BatchPlaceOrdersRequest(requests=[PlaceOrderRequest()] * 65_000), "requests", 500),
        (NotifyPaymentRequest(headers=[NotificationHeader()] * 65_000), "headers", 100),
    ],
)
def test_items_are_counted_before_any_is_checked(request_: Message, field: str, most: int) -> None:
    assert wrong(request_).fields == ((field, f"must contain no more than {most} item(s)"),)


@pytest.mark.usefixtures("untouched")
def test_a_field_without_a_limit_in_its_rules_has_the_default() -> None:
    request = UpdateCampaignRequest()
    request.update_mask.paths.extend(["product"] * (validation.MAX_ITEMS + 1))
    assert [field for field, _ in wrong(request).fields] == ["update_mask.paths"]


@pytest.mark.usefixtures("untouched")
def test_maps_are_counted_and_a_type_may_contain_itself() -> None:
    request = Struct()
    request.update({str(number): 1 for number in range(validation.MAX_ITEMS + 1)})
    assert [field for field, _ in wrong(request).fields] == ["fields"]


def test_the_allowed_number_of_items_passes() -> None:
    mask = UpdateCampaignRequest()
    mask.update_mask.paths.extend(["product"] * validation.MAX_ITEMS)
    validation.validate(mask)
    validation.validate(BatchPlaceOrdersRequest(requests=[PlaceOrderRequest()] * 500))


def test_an_error_names_ten_fields_and_counts_the_others() -> None:
    request = CreateCampaignRequest(campaign=Campaign(tiers=[Tier()] * 20))
    error = wrong(request)
    assert len(error.fields) == MAX_FIELDS
    # 20 tiers with two fields each, the campaign's own fields and the request's id.
    total = len(validation._VALIDATOR.collect_violations(request))
    assert total > 40
    assert error.message.endswith(f"(and {total - 1} more)")


def patterns(message: DescriptorProto) -> Iterator[str]:
    for field in message.field:
        rules = field.options.Extensions[validate_pb2.field]
        yield from (one.string.pattern for one in (rules, rules.repeated.items) if one.string.HasField("pattern"))
    for nested in message.nested_type:
        yield from patterns(nested)


def test_exactly_the_patterns_of_the_protos_are_described_in_words() -> None:
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    messages = [message for file in files if file.package.startswith("groupbuy.") for message in file.message_type]
    assert {pattern for message in messages for pattern in patterns(message)} == set(validation.PATTERNS)


def test_broken_rules_are_described_in_words() -> None:
    request = PlaceOrderRequest(campaign="mug", group="42", currency="cny", quantity=1, max_unit_price_minor=1, wait=9)  # type: ignore[arg-type]
    assert dict(wrong(request).fields) == {
        "customer": "must not be empty",
        "campaign": "must be campaigns/{campaign}, where {campaign} is 1 to 63 lower-case letters, digits and hyphens",
        "group": "must be groups/{group}, where {group} is a UUID in lower case",
        "currency": "must be an ISO 4217 code: three upper-case letters",
        "payment_method": "must not be empty",
        "request_id": "must be a UUID",
        "wait": "must be a value of its enum",
    }
    assert wrong(GetOrderRequest(name="orders/1")).message == (
        "name: must be groups/{group}/orders/{order} or groups/-/orders/{order}, where {group} and {order} are "
        "UUIDs in lower case"
    )
    assert wrong(CreateCampaignRequest(request_id=str(uuid4()))).message == "campaign: must be set"


def test_an_unknown_pattern_is_not_quoted() -> None:
    proto = validate_pb2.Violation(rule_id="string.pattern", message="does not match regex pattern `^x$`")
    violation: Any = SimpleNamespace(proto=proto, rule_value="^x$")
    assert validation.describe(violation) == "has the wrong format"


async def test_refused_calls_leave_nothing_to_the_garbage_collector() -> None:
    async with running() as run:
        await refusal(run.place(a_request(quantity=0)))
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await refusal(run.place(a_request(quantity=0)))
                await refusal(run.place(within_s=None))
            # One more call, so that the last refused one has ended at the server too.
            await run.place()
            left = [one for one in gc.get_objects() if isinstance(one, ApiError)]
        finally:
            gc.enable()
    # The overload error is built once and kept.
    assert [one.message for one in left if one.fields or one.reason_name == "DEADLINE_REQUIRED"] == []
