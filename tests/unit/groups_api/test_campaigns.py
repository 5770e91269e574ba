"""CampaignService: terms that make no sense are refused, and an id stands for one campaign."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, GetCampaignRequest, Tier

from chassis.errors import ApiError
from chassis.topics import CAMPAIGNS
from eventlog.errors import BrokerUnavailable
from services.groups.api.campaigns import CampaignServicer
from services.groups.domain.terms import problems
from tests.unit.groups_api.world import TIME_MS, Broker, Reader, call, campaign

REQUEST = "5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"
OTHER = "6b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11"


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def broker(reader: Reader) -> Broker:
    made = Broker()
    made.reacts = reader.take
    return made


@pytest.fixture
def campaigns(reader: Reader, broker: Broker) -> CampaignServicer:
    return CampaignServicer(reader, broker, now_ms=lambda: TIME_MS)


def asked(key: str = "mug", request_id: str = REQUEST, **more: object) -> CreateCampaignRequest:
    return CreateCampaignRequest(campaign=campaign(**more), campaign_id=key, request_id=request_id)


async def test_a_campaign_is_written_under_its_id_and_can_be_read(
    broker: Broker, reader: Reader, campaigns: CampaignServicer
) -> None:
    made = await campaigns.CreateCampaign(asked(), call())
    ((topic, key, value, headers),) = broker.records
    assert (topic, key, Campaign.FromString(value)) == (CAMPAIGNS.name, "mug", made)
    assert (made.name, made.revision, made.rules_version, made.archived) == ("campaigns/mug", 1, 1, False)
    assert made.create_time.ToMilliseconds() == TIME_MS
    assert (made.product, made.capacity, len(made.tiers)) == ("mug", 10, 2)
    assert not problems(made)
    assert (headers["ce_id"], headers["ce_type"]) == (b"mug:1", b"groupbuy.groups.v1.Campaign")
    assert reader.find("mug") == made
    assert await campaigns.GetCampaign(GetCampaignRequest(name=made.name), call()) == made


async def test_what_the_service_sets_is_not_taken_from_the_caller(campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(
        asked(name="campaigns/x", revision=7, rules_version=9, archived=True, create_time=Timestamp(seconds=1)), call()
    )
    assert (made.name, made.revision, made.rules_version, made.archived) == ("campaigns/mug", 1, 1, False)
    assert made.create_time.ToMilliseconds() == TIME_MS


async def test_without_an_id_one_is_made_from_the_request(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(asked(""), call())
    assert await campaigns.CreateCampaign(asked(""), call()) == made
    assert (await campaigns.CreateCampaign(asked("", OTHER), call())).name != made.name
    assert len(broker.records) == 2


async def test_the_same_again_is_the_stored_one(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(asked(), call())
    assert await campaigns.CreateCampaign(asked(request_id=OTHER), call()) == made
    assert len(broker.records) == 1


async def test_another_payload_under_an_id_is_refused(broker: Broker, campaigns: CampaignServicer) -> None:
    await campaigns.CreateCampaign(asked(), call())
    with pytest.raises(ApiError) as caught:
        await campaigns.CreateCampaign(asked(capacity=11), call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.ALREADY_EXISTS, "CAMPAIGN_EXISTS")
    assert len(broker.records) == 1


async def test_of_two_at_once_only_one_is_written(broker: Broker, campaigns: CampaignServicer) -> None:
    first, second = await asyncio.gather(
        campaigns.CreateCampaign(asked(), call()),
        campaigns.CreateCampaign(asked(capacity=11), call()),
        return_exceptions=True,
    )
    assert isinstance(first, Campaign)
    assert isinstance(second, ApiError)
    assert second.reason_name == "CAMPAIGN_EXISTS"
    assert len(broker.records) == 1


@pytest.mark.parametrize(
    ("more", "reason", "field"),
    [
        (
            {"tiers": [Tier(members=5, unit_price_minor=8000), Tier(members=2, unit_price_minor=7000)]},
            "TIERS_NOT_MONOTONIC",
            "campaign.tiers[1].members",
        ),
        (
            {"tiers": [Tier(members=2, unit_price_minor=9900)]},
            "TIERS_NOT_MONOTONIC",
            "campaign.tiers[0].unit_price_minor",
        ),
        ({"window": Duration(seconds=6 * 86_400)}, "WINDOW_TOO_LONG", "campaign.window"),
        ({"currency": "XXQ"}, "INVALID_FIELDS", "campaign.currency"),
        ({"capacity": 3}, "INVALID_FIELDS", "campaign.capacity"),
        ({"solo_price_minor": -1}, "TIERS_NOT_MONOTONIC", "campaign.solo_price_minor"),
        ({"solo_price_minor": 10**12, "max_quantity": 10_000}, "AMOUNT_OVERFLOW", "campaign.max_quantity"),
    ],
)
async def test_terms_that_make_no_sense_are_refused(
    broker: Broker, campaigns: CampaignServicer, more: dict[str, object], reason: str, field: str
) -> None:
    request = CreateCampaignRequest(campaign=campaign(**more), request_id=REQUEST)
    with pytest.raises(ApiError) as caught:
        await campaigns.CreateCampaign(request, call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert field in [path for path, _ in caught.value.fields]
    assert not broker.records


async def test_a_campaign_made_elsewhere_a_moment_ago_is_known(reader: Reader, campaigns: CampaignServicer) -> None:
    reader.unread["cup"] = campaign(name="campaigns/cup")
    assert (await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/cup"), call())).name == "campaigns/cup"


async def test_an_unknown_campaign_is_not_found(campaigns: CampaignServicer) -> None:
    with pytest.raises(ApiError) as caught:
        await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/none"), call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")


async def test_a_topic_that_can_not_be_read_makes_nothing_unknown(
    reader: Reader, broker: Broker, campaigns: CampaignServicer
) -> None:
    reader.away = True
    with pytest.raises(BrokerUnavailable):
        await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/none"), call(0.1))
    with pytest.raises(BrokerUnavailable):
        await campaigns.CreateCampaign(asked(), call(0.1))
    assert not broker.records


async def test_a_broker_that_is_away_is_said(broker: Broker, campaigns: CampaignServicer) -> None:
    broker.here = False
    with pytest.raises(BrokerUnavailable):
        await campaigns.CreateCampaign(asked(), call())
