"""Campaigns with stock, limits and times: rules version 2, and refused where the inventory service is missing."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, UpdateCampaignRequest

from chassis.rpc.errors import ApiError
from services.groups.domain.terms import freeze, needs_supply_rules, problems
from tests.scenarios.facts import campaign

START, END = Timestamp(seconds=1_760_000_000), Timestamp(seconds=1_760_003_600)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stock": "drop"}, "stock"),
        ({"stock": "stocks/Drop"}, "stock"),
        ({"limit_per_customer": -1}, "limit_per_customer"),
        ({"lease_ahead": 1}, "lease_ahead"),
        ({"stock": "stocks/drop", "lease_ahead": 2_001}, "lease_ahead"),
        ({"start_time": END, "end_time": START}, "end_time"),
        ({"start_time": Timestamp(seconds=-5)}, "start_time"),
        ({"stock": "stocks/drop", "rules_version": 1}, "rules_version"),
    ],
)
def test_an_impossible_offer_is_named(changes: dict[str, Any], field: str) -> None:
    assert [one.field for one in problems(campaign(**{"rules_version": 2} | changes))] == [field]


def test_only_the_new_fields_need_the_new_rules() -> None:
    assert not needs_supply_rules(campaign(waitlist=True, house_fill_members=1))
    for changes in ({"stock": "stocks/drop"}, {"limit_per_customer": 1}, {"start_time": START}, {"end_time": END}):
        assert needs_supply_rules(campaign(**changes))


def test_terms_freeze_the_new_fields_and_version_1_has_none() -> None:
    offer = campaign(stock="stocks/drop", start_time=START, end_time=END, limit_per_customer=2, rules_version=2)
    for solo in (False, True):
        terms = freeze(offer, solo)
        assert (terms.stock, terms.start_ms, terms.end_ms) == ("drop", 1_760_000_000_000, 1_760_003_600_000)
        assert terms.limit_per_customer == 2
    assert not freeze(campaign(rules_version=1), False).stock


async def _create(campaigns: Any, offer: Campaign, key: str = "drop") -> Campaign:
    request = CreateCampaignRequest(campaign=offer, campaign_id=key, request_id=str(uuid4()))
    made: Campaign = await campaigns.CreateCampaign(request, Call())
    return made


class Call:
    """The part of a call's context that the servicer reads."""

    def time_remaining(self) -> float:
        return 5.0


class Table:
    """The campaigns' topic in memory, and its publisher."""

    def __init__(self) -> None:
        self._values: dict[str, Campaign] = {}

    def find(self, key: str, /) -> Campaign | None:
        return self._values.get(key)

    async def get_latest(self, key: str, /) -> Campaign | None:
        return self._values.get(key)

    async def refresh(self) -> None:
        """Everything is read."""

    def values(self) -> list[Campaign]:
        return list(self._values.values())

    async def publish(self, topic: str, record: Any, *, timeout_s: float | None = None) -> Any:
        self._values[record.key] = Campaign.FromString(record.value)


def servicer(*, inventory: bool) -> Any:
    from services.groups.api.campaigns import CampaignServicer

    table: Any = Table()
    return CampaignServicer(table, table, lambda: 1, inventory=inventory)


async def test_the_service_chooses_the_rules_by_the_fields() -> None:
    campaigns = servicer(inventory=True)
    assert (await _create(campaigns, campaign(), "plain")).rules_version == 1
    offer = campaign(stock="stocks/drop", limit_per_customer=1)
    made = await _create(campaigns, offer)
    assert made.rules_version == 2
    assert await _create(campaigns, offer) == made
    # An edit that adds a limit brings the new rules for new groups; they stay when the limit goes.
    for limit in (3, 0):
        edit = Campaign(name="campaigns/plain", limit_per_customer=limit)
        request = UpdateCampaignRequest(campaign=edit, update_mask=FieldMask(paths=["limit_per_customer"]))
        assert (await campaigns.UpdateCampaign(request, Call())).rules_version == 2


@pytest.mark.parametrize(
    "field", [{"stock": "stocks/drop"}, {"limit_per_customer": 1}, {"start_time": START}, {"end_time": END}]
)
async def test_without_the_inventory_service_these_fields_are_refused(field: dict[str, Any]) -> None:
    campaigns = servicer(inventory=False)
    with pytest.raises(ApiError, match="needs the inventory service"):
        await _create(campaigns, campaign(**field))
    await _create(campaigns, campaign())
    edit = Campaign(name="campaigns/drop", **field)
    with pytest.raises(ApiError, match="needs the inventory service"):
        await campaigns.UpdateCampaign(UpdateCampaignRequest(campaign=edit), Call())
