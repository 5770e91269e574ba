"""Edits of a campaign: the fields that a caller may set, validation of the result, and etags against lost updates.

An edit does not change open groups, which have frozen their terms. Functions return a new campaign, because the stored
one is shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from groupbuy.groups.v1.campaigns_pb2 import FAILED_CAPTURE_POLICY_KEEP_PRICE, Campaign, UpdateCampaignRequest

from chassis.rpc.errors import ApiError
from chassis.rpc.field_mask import edited_fields
from chassis.rpc.validation import invalid_field, invalid_fields, validate
from services.groups.api import errors as refusals
from services.groups.domain.terms import (
    DEFAULT_RULES_VERSION,
    SUPPLY_RULES_VERSION,
    needs_supply_rules,
    problems,
)

#: Fields that only the service sets.
OUTPUT_FIELDS = ("name", "rules_version", "revision", "create_time", "archived", "etag")
#: Fields that an edit may change.
EDITABLE = tuple(field.name for field in Campaign.DESCRIPTOR.fields if field.name not in OUTPUT_FIELDS)


def id_of(name: str) -> str:
    """`campaigns/{campaign}` -> campaign."""
    return name.removeprefix("campaigns/")


def input_fields(campaign: Campaign) -> Campaign:
    """A campaign with the fields that a caller sets."""
    return _without(campaign, OUTPUT_FIELDS)


def created(key: str, requested: Campaign, now_ms: int) -> Campaign:
    """A new campaign, ready to be stored."""
    campaign = _without(requested)
    campaign.name = f"campaigns/{key}"
    campaign.rules_version = _rules_version(campaign)
    campaign.revision = 1
    campaign.create_time.FromMilliseconds(now_ms)
    return campaign


def _rules_version(campaign: Campaign) -> int:
    """The rules for new groups. Groups without stock, limit, start and end keep version 1, which costs them nothing."""
    return SUPPLY_RULES_VERSION if needs_supply_rules(campaign) else DEFAULT_RULES_VERSION


def with_etag(stored: Campaign) -> Campaign:
    """A campaign for the API: with its etag, which is not stored, and the default of the policy for failed captures."""
    campaign = _without(stored)
    campaign.failed_capture_policy = campaign.failed_capture_policy or FAILED_CAPTURE_POLICY_KEEP_PRICE
    campaign.etag = etag(stored)
    return campaign


def etag(stored: Campaign) -> str:
    """A digest of all stored fields."""
    return sha256(stored.SerializeToString(deterministic=True)).hexdigest()[:16]


def fields(request: UpdateCampaignRequest) -> tuple[str, ...]:
    """Fields that an edit sets. Raises ApiError INVALID_FIELDS for an invalid name or a field that is not editable."""
    name = request.campaign.name
    if not name.startswith("campaigns/") or "/" in id_of(name):
        raise invalid_field("campaign.name", "is not the name of a campaign")
    return edited_fields(request.update_mask, request.campaign, EDITABLE)


def edited(stored: Campaign, requested: Campaign, changed: Iterable[str]) -> Campaign:
    """The stored campaign with the requested fields changed. Raises ApiError if it is archived or would be invalid."""
    if stored.archived:
        raise refusals.campaign_archived(id_of(stored.name))
    campaign = _without(stored, changed)
    campaign.MergeFrom(_without(requested, {*OUTPUT_FIELDS, *EDITABLE}.difference(changed)))
    campaign.rules_version = max(campaign.rules_version, _rules_version(campaign))
    _require_valid(campaign)
    return campaign


def archived(stored: Campaign) -> Campaign:
    """The stored campaign, archived."""
    campaign = _without(stored)
    campaign.archived = True
    return campaign


def _without(campaign: Campaign, cleared: Iterable[str] = ()) -> Campaign:
    """A copy with some fields cleared."""
    copy = Campaign()
    copy.CopyFrom(campaign)
    for field in cleared:
        copy.ClearField(field)  # type: ignore[arg-type] # the stubs want each name as a literal
    return copy


def _require_valid(campaign: Campaign) -> None:
    try:
        validate(campaign)
    except ApiError as error:
        raise invalid_fields([(f"campaign.{path}", problem) for path, problem in error.fields]) from None
    found = problems(campaign)
    if found:
        raise refusals.bad_terms(found)
