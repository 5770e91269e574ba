"""CampaignService: invalid terms are refused, and an id names one campaign."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1.campaigns_pb2 import (
    FAILED_CAPTURE_POLICY_KEEP_PRICE,
    ArchiveCampaignRequest,
    Campaign,
    CreateCampaignRequest,
    GetCampaignRequest,
    ListCampaignsRequest,
    ListCampaignsResponse,
    Tier,
    UpdateCampaignRequest,
)

from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable
from services.groups.api import edits
from services.groups.api.campaigns import CampaignServicer
from services.groups.domain.terms import freeze, problems
from shared_kernel.topics import CAMPAIGNS
from tests.scenarios.api_call import call
from tests.scenarios.facts import campaign
from tests.unit.groups_api.world import TIME_MS, Broker, Reader

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


def create_request(key: str = "mug", request_id: str = REQUEST, **more: object) -> CreateCampaignRequest:
    return CreateCampaignRequest(campaign=campaign(**more), campaign_id=key, request_id=request_id)


async def test_a_campaign_is_stored_under_its_id_and_can_be_read(
    broker: Broker, reader: Reader, campaigns: CampaignServicer
) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    ((topic, key, value, headers),) = broker.records
    assert (topic, key) == (CAMPAIGNS.name, "mug")
    assert edits.with_etag(Campaign.FromString(value)) == made
    assert (made.name, made.revision, made.rules_version, made.archived) == ("campaigns/mug", 1, 1, False)
    assert made.create_time.ToMilliseconds() == TIME_MS
    assert (made.product, made.capacity, len(made.tiers)) == ("mug", 10, 2)
    assert not problems(made)
    assert (headers["ce_id"], headers["ce_type"]) == (b"mug:1", b"groupbuy.groups.v1.Campaign")
    assert reader.find("mug") == Campaign.FromString(value)
    assert await campaigns.GetCampaign(GetCampaignRequest(name=made.name), call()) == made


async def test_a_campaign_without_a_policy_for_failed_captures_shows_the_default(
    broker: Broker, campaigns: CampaignServicer
) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    assert made.failed_capture_policy == FAILED_CAPTURE_POLICY_KEEP_PRICE
    ((_, _, value, _),) = broker.records
    assert not Campaign.FromString(value).failed_capture_policy
    # The default, sent back by name, is an edit that changes nothing for groups.
    edited = await campaigns.UpdateCampaign(UpdateCampaignRequest(campaign=made), call())
    assert edited.failed_capture_policy == FAILED_CAPTURE_POLICY_KEEP_PRICE
    assert freeze(edited, False).failed_capture_policy == 0


async def test_a_policy_for_failed_captures_is_stored(broker: Broker, campaigns: CampaignServicer) -> None:
    request = create_request(failed_capture_policy=FAILED_CAPTURE_POLICY_KEEP_PRICE)
    made = await campaigns.CreateCampaign(request, call())
    ((_, _, value, _),) = broker.records
    assert Campaign.FromString(value).failed_capture_policy == FAILED_CAPTURE_POLICY_KEEP_PRICE
    assert await campaigns.CreateCampaign(request, call()) == made


async def test_output_fields_of_the_request_are_ignored(campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(
        create_request(
            name="campaigns/x", revision=7, rules_version=9, archived=True, create_time=Timestamp(seconds=1)
        ),
        call(),
    )
    assert (made.name, made.revision, made.rules_version, made.archived) == ("campaigns/mug", 1, 1, False)
    assert made.create_time.ToMilliseconds() == TIME_MS


async def test_an_id_is_derived_from_the_request_id(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(""), call())
    assert await campaigns.CreateCampaign(create_request(""), call()) == made
    assert (await campaigns.CreateCampaign(create_request("", OTHER), call())).name != made.name
    assert len(broker.records) == 2


async def test_a_retry_returns_the_stored_campaign(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    assert await campaigns.CreateCampaign(create_request(request_id=OTHER), call()) == made
    assert len(broker.records) == 1


async def test_another_payload_under_an_id_is_refused(broker: Broker, campaigns: CampaignServicer) -> None:
    await campaigns.CreateCampaign(create_request(), call())
    with pytest.raises(ApiError) as caught:
        await campaigns.CreateCampaign(create_request(capacity=11), call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.ALREADY_EXISTS, "CAMPAIGN_EXISTS")
    assert len(broker.records) == 1


async def test_two_concurrent_creates_write_one_campaign(broker: Broker, campaigns: CampaignServicer) -> None:
    first, second = await asyncio.gather(
        campaigns.CreateCampaign(create_request(), call()),
        campaigns.CreateCampaign(create_request(capacity=11), call()),
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
        ({"failed_capture_policy": 2}, "INVALID_FIELDS", "campaign.failed_capture_policy"),
        ({"solo_price_minor": -1}, "TIERS_NOT_MONOTONIC", "campaign.solo_price_minor"),
        ({"solo_price_minor": 10**12, "max_quantity": 10_000}, "AMOUNT_OVERFLOW", "campaign.max_quantity"),
    ],
)
async def test_invalid_terms_are_refused(
    broker: Broker, campaigns: CampaignServicer, more: dict[str, object], reason: str, field: str
) -> None:
    request = CreateCampaignRequest(campaign=campaign(**more), request_id=REQUEST)
    with pytest.raises(ApiError) as caught:
        await campaigns.CreateCampaign(request, call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert field in [path for path, _ in caught.value.fields]
    assert not broker.records


async def test_a_campaign_that_another_process_just_created_is_known(
    reader: Reader, campaigns: CampaignServicer
) -> None:
    reader.unread["cup"] = campaign(name="campaigns/cup")
    assert (await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/cup"), call())).name == "campaigns/cup"


async def test_an_unknown_campaign_is_not_found(campaigns: CampaignServicer) -> None:
    with pytest.raises(ApiError) as caught:
        await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/none"), call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")


async def test_an_unreadable_topic_is_unavailable_not_unknown(
    reader: Reader, broker: Broker, campaigns: CampaignServicer
) -> None:
    reader.away = True
    with pytest.raises(BrokerUnavailable):
        await campaigns.GetCampaign(GetCampaignRequest(name="campaigns/none"), call(0.1))
    with pytest.raises(BrokerUnavailable):
        await campaigns.CreateCampaign(create_request(), call(0.1))
    assert not broker.records


async def test_an_unavailable_broker_is_reported(broker: Broker, campaigns: CampaignServicer) -> None:
    broker.here = False
    with pytest.raises(BrokerUnavailable):
        await campaigns.CreateCampaign(create_request(), call())


# Editing --------------------------------------------------------------------------------------------------------------


def edit(*paths: str, etag: str = "", **more: object) -> UpdateCampaignRequest:
    campaign = Campaign(name="campaigns/mug", etag=etag, **more)  # type: ignore[arg-type] # fields by name
    return UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=paths))


async def test_an_edit_changes_the_fields_of_its_mask_only(
    broker: Broker, reader: Reader, campaigns: CampaignServicer
) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    edited = await campaigns.UpdateCampaign(
        edit("capacity", "waitlist", capacity=20, waitlist=True, product="x"), call()
    )
    assert (edited.capacity, edited.waitlist, edited.product) == (20, True, "mug")
    assert (edited.revision, edited.create_time, edited.name) == (2, made.create_time, made.name)
    assert made.etag
    assert edited.etag not in ("", made.etag)
    stored = reader.find("mug")
    assert stored is not None
    assert (stored.capacity, stored.etag) == (20, "")
    assert broker.records[-1][3]["ce_id"] == b"mug:2"
    cleared = await campaigns.UpdateCampaign(edit("waitlist"), call())
    assert (cleared.waitlist, cleared.capacity, cleared.revision) == (False, 20, 3)


async def test_an_edit_without_a_mask_changes_set_fields_and_a_star_all(campaigns: CampaignServicer) -> None:
    await campaigns.CreateCampaign(create_request(max_quantity=7), call())
    edited = await campaigns.UpdateCampaign(edit(product="cup"), call())
    assert (edited.product, edited.max_quantity) == ("cup", 7)
    whole = campaign(product="bowl", name="campaigns/mug")
    request = UpdateCampaignRequest(campaign=whole, update_mask=FieldMask(paths=["*"]))
    edited = await campaigns.UpdateCampaign(request, call())
    assert (edited.product, edited.max_quantity, edited.capacity) == ("bowl", 0, 10)


async def test_lists_are_replaced_as_a_whole(campaigns: CampaignServicer) -> None:
    await campaigns.CreateCampaign(create_request(), call())
    edited = await campaigns.UpdateCampaign(edit("tiers", tiers=[Tier(members=3, unit_price_minor=8000)]), call())
    assert list(edited.tiers) == [Tier(members=3, unit_price_minor=8000)]


async def test_an_edit_without_a_change_is_not_written(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    assert await campaigns.UpdateCampaign(edit("capacity", capacity=10, etag=made.etag), call()) == made
    assert len(broker.records) == 1


async def test_an_edit_with_an_old_etag_is_refused(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    await campaigns.UpdateCampaign(edit("capacity", capacity=11, etag=made.etag), call())
    with pytest.raises(ApiError) as caught:
        await campaigns.UpdateCampaign(edit("capacity", capacity=12, etag=made.etag), call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    with pytest.raises(ApiError):
        await campaigns.ArchiveCampaign(ArchiveCampaignRequest(name=made.name, etag=made.etag), call())
    assert len(broker.records) == 2


async def test_of_two_concurrent_edits_with_one_etag_one_is_refused(campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    edits = (edit("capacity", capacity=seats, etag=made.etag) for seats in (11, 12))
    found = await asyncio.gather(*(campaigns.UpdateCampaign(one, call()) for one in edits), return_exceptions=True)
    assert [type(one) for one in found] == [Campaign, ApiError]


async def test_an_edit_that_another_process_has_overwritten_is_not_confirmed(
    broker: Broker, reader: Reader, campaigns: CampaignServicer
) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())

    def overwritten(topic: str, key: str, value: bytes) -> None:
        theirs = Campaign.FromString(value)
        theirs.capacity = 99
        reader.take(topic, key, theirs.SerializeToString())

    broker.reacts = overwritten
    with pytest.raises(ApiError) as caught:
        await campaigns.UpdateCampaign(edit("capacity", capacity=12, etag=made.etag), call())
    assert caught.value.reason_name == "ETAG_MISMATCH"


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (edit("window.seconds"), "update_mask", "INVALID_FIELDS"),
        (edit("revision", revision=9), "update_mask", "INVALID_FIELDS"),
        (edit("*", "capacity"), "update_mask", "INVALID_FIELDS"),
        (edit("product"), "campaign.product", "INVALID_FIELDS"),
        (edit("capacity", capacity=3), "campaign.capacity", "INVALID_FIELDS"),
        (edit("solo_price_minor", solo_price_minor=1), "campaign.tiers[0].unit_price_minor", "TIERS_NOT_MONOTONIC"),
        (UpdateCampaignRequest(), "campaign.name", "INVALID_FIELDS"),
    ],
)
async def test_an_edit_to_invalid_terms_is_refused(
    campaigns: CampaignServicer, broker: Broker, request_: UpdateCampaignRequest, field: str, reason: str
) -> None:
    await campaigns.CreateCampaign(create_request(), call())
    with pytest.raises(ApiError) as caught:
        await campaigns.UpdateCampaign(request_, call())
    assert caught.value.reason_name == reason
    assert field in dict(caught.value.fields)
    assert len(broker.records) == 1


async def test_an_archived_campaign_can_not_be_edited(broker: Broker, campaigns: CampaignServicer) -> None:
    made = await campaigns.CreateCampaign(create_request(), call())
    archived = await campaigns.ArchiveCampaign(ArchiveCampaignRequest(name=made.name), call())
    assert (archived.archived, archived.revision) == (True, 2)
    assert await campaigns.ArchiveCampaign(ArchiveCampaignRequest(name=made.name), call()) == archived
    with pytest.raises(ApiError) as caught:
        await campaigns.UpdateCampaign(edit("capacity", capacity=12), call())
    assert (caught.value.code, caught.value.reason_name) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CAMPAIGN_ARCHIVED",
    )
    assert len(broker.records) == 2


async def test_an_unknown_campaign_can_not_be_edited(campaigns: CampaignServicer) -> None:
    with pytest.raises(ApiError) as caught:
        await campaigns.UpdateCampaign(edit("capacity", capacity=12), call())
    assert caught.value.reason_name == "CAMPAIGN_NOT_FOUND"
    with pytest.raises(ApiError) as caught:
        await campaigns.ArchiveCampaign(ArchiveCampaignRequest(name="campaigns/mug"), call())
    assert caught.value.reason_name == "CAMPAIGN_NOT_FOUND"


async def test_campaigns_are_listed_by_name_each_once(campaigns: CampaignServicer) -> None:
    for number in (3, 1, 4, 0, 2):
        await campaigns.CreateCampaign(create_request(f"c{number}"), call())
    await campaigns.ArchiveCampaign(ArchiveCampaignRequest(name="campaigns/c1"), call())

    async def page(token: str = "", **more: object) -> ListCampaignsResponse:
        request = ListCampaignsRequest(page_size=2, page_token=token, **more)  # type: ignore[arg-type]
        return await campaigns.ListCampaigns(request, call())

    first = await page()
    assert [one.name for one in first.campaigns] == ["campaigns/c0", "campaigns/c2"]
    assert all(one.etag for one in first.campaigns)
    await campaigns.CreateCampaign(create_request("c1a"), call())
    second = await page(first.next_page_token)
    assert [one.name for one in second.campaigns] == ["campaigns/c3", "campaigns/c4"]
    assert not second.next_page_token
    assert "campaigns/c1" in [one.name for one in (await page(show_archived=True)).campaigns]
    with pytest.raises(ApiError) as caught:
        await page(first.next_page_token, show_archived=True)
    assert dict(caught.value.fields).keys() == {"page_token"}


async def test_calls_for_one_campaign_read_the_topic_together(
    reader: Reader, campaigns: CampaignServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read serves all of them; one read after another would leave the last ones without time."""
    await campaigns.CreateCampaign(create_request(), call())
    under_way, most = 0, 0
    refresh = reader.refresh

    async def counted() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await refresh()
        under_way -= 1

    monkeypatch.setattr(reader, "refresh", counted)
    same = [campaigns.UpdateCampaign(edit("max_quantity", max_quantity=2), call()) for _ in range(20)]
    await asyncio.gather(*same)
    assert most >= 20


async def test_a_campaign_that_was_not_read_back_is_read_by_the_next_call(
    reader: Reader, broker: Broker, campaigns: CampaignServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call that waits for the first does not write a second campaign under its id."""
    refresh, reads = reader.refresh, 0

    async def fails_once() -> None:
        nonlocal reads
        reads += 1
        # The first two calls read before they lock; the third read is the first call's, of its own record.
        if reads == 3:
            raise BrokerUnavailable("away")
        await refresh()

    monkeypatch.setattr(reader, "refresh", fails_once)
    first, second = await asyncio.gather(
        campaigns.CreateCampaign(create_request(), call()),
        campaigns.CreateCampaign(create_request(), call()),
        return_exceptions=True,
    )
    assert isinstance(first, BrokerUnavailable)
    assert isinstance(second, Campaign)
    assert len(broker.records) == 1
