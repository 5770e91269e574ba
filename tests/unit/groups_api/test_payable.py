"""A campaign needs a payment provider that can take its currency, prices and window. Method: campaigns at the
documented limits of Stripe and WeChat Pay, and the servicer with an in-memory broker."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from groupbuy.errors.v1 import errors_pb2
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier, UpdateCampaignRequest

from chassis.rpc.errors import ApiError
from services.groups.api.campaigns import CampaignServicer
from services.groups.api.payable import problems_at, require_payable
from services.groups.domain.terms import problems
from shared_kernel.payment_providers import CAPABILITIES, Capabilities, capabilities_of
from tests.scenarios.api_call import call
from tests.scenarios.facts import campaign
from tests.unit.groups_api.test_campaigns import REQUEST
from tests.unit.groups_api.world import TIME_MS, Broker, Reader

STRIPE, WECHAT, SIMULATED = (CAPABILITIES[name] for name in ("stripe", "wechat", "simulated"))
DAY_S, HOUR_S = 86_400, 3_600


def offer(currency: str = "EUR", prices: tuple[int, ...] = (9_000, 8_000), **fields: object) -> Campaign:
    tiers = [Tier(members=2 + index, unit_price_minor=price) for index, price in enumerate(prices)]
    return campaign(currency=currency, tiers=tiers, solo_price_minor=prices[0] + 1_000, **fields)


@pytest.mark.parametrize(
    ("provider", "made", "fields"),
    [
        (STRIPE, offer(), []),
        (STRIPE, offer("KWD", (9_000, 7_995)), ["tiers[1].unit_price_minor"]),
        (STRIPE, offer("KWD", (9_000, 8_000), leader_discount_minor=5), ["leader_discount_minor"]),
        (STRIPE, offer("EUR", (9_000, 49)), ["tiers[1].unit_price_minor"]),
        (STRIPE, offer("EUR", (9_000, 100), leader_discount_minor=60), ["leader_discount_minor"]),
        (STRIPE, offer("EUR", (2_000_000, 8_000)), ["max_quantity"]),
        (STRIPE, offer("EUR", (1_000_000, 8_000), max_quantity=99), []),
        (STRIPE, offer("GHS"), ["currency"]),
        (WECHAT, offer("EUR"), ["currency"]),
        (WECHAT, offer("CNY", window=Duration(seconds=5 * DAY_S + 23 * HOUR_S)), []),
        # Seven days less a day for settling fit the rules, but a Visa hold at Stripe lasts 6 days and 18 hours.
        (STRIPE, offer(window=Duration(seconds=5 * DAY_S + 20 * HOUR_S)), ["window"]),
        (STRIPE, offer(window=Duration(seconds=5 * DAY_S + 18 * HOUR_S)), []),
        (SIMULATED, offer("GHS", (3, 2)), []),
    ],
)
def test_the_problems_of_a_valid_campaign_at_a_provider(
    provider: Capabilities, made: Campaign, fields: list[str]
) -> None:
    assert problems(made) == []
    assert [problem.field for problem in problems_at(provider, made)] == fields


def test_one_provider_that_can_take_a_campaign_is_enough() -> None:
    require_payable(offer("CNY", (9_000, 40)), capabilities_of(("stripe", "wechat")))
    require_payable(offer("GHS"), ())
    with pytest.raises(ApiError) as refused:
        require_payable(offer("KWD", (9_005, 7_995)), capabilities_of(("stripe", "wechat")))
    # The problems at the provider with the fewest are listed.
    assert [field for field, _ in refused.value.fields] == ["campaign.currency"]


async def test_such_a_campaign_is_neither_created_nor_made_by_an_edit() -> None:
    reader, broker = Reader(), Broker()
    broker.reacts = reader.take
    servicer = CampaignServicer(reader, broker, now_ms=lambda: TIME_MS, providers=[STRIPE])
    long = Duration(seconds=5 * DAY_S + 20 * HOUR_S)
    with pytest.raises(ApiError) as refused:
        await servicer.CreateCampaign(
            CreateCampaignRequest(campaign=offer(window=long), campaign_id="mug", request_id=REQUEST), call()
        )
    assert refused.value.reason == errors_pb2.ERROR_REASON_WINDOW_TOO_LONG
    assert broker.records == []
    made = await servicer.CreateCampaign(
        CreateCampaignRequest(campaign=offer(), campaign_id="mug", request_id=REQUEST), call()
    )
    edit = UpdateCampaignRequest(
        campaign=Campaign(name=made.name, window=long), update_mask=FieldMask(paths=["window"])
    )
    with pytest.raises(ApiError):
        await servicer.UpdateCampaign(edit, call())
    assert len(broker.records) == 1
