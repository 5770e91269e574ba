"""What an edit makes of a campaign: which fields a caller may set, and whether two edits met.

Groups freeze their terms when they open, so no edit touches an open group. Must never let through a campaign that a
group could not be opened of, nor change one in place: what is stored is shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from groupbuy.groups.v1.campaigns_pb2 import Campaign, UpdateCampaignRequest

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import invalid_fields, validate
from services.groups.api import errors as refusals
from services.groups.domain.terms import DEFAULT_RULES_VERSION, problems

#: What the service itself sets: no part of what a caller asks for.
OUTPUT_FIELDS = ("name", "rules_version", "revision", "create_time", "archived", "etag")
#: What an edit may change.
EDITABLE = tuple(field.name for field in Campaign.DESCRIPTOR.fields if field.name not in OUTPUT_FIELDS)
#: In a mask: all of them.
ALL = "*"


def id_of(name: str) -> str:
    """`campaigns/{campaign}` -> campaign."""
    return name.removeprefix("campaigns/")


def asked(campaign: Campaign) -> Campaign:
    """What a caller asks for of a campaign."""
    return _without(campaign, OUTPUT_FIELDS)


def made(key: str, wanted: Campaign, now_ms: int) -> Campaign:
    """A new campaign as it is stored."""
    campaign = _without(wanted)
    campaign.name = f"campaigns/{key}"
    campaign.rules_version = DEFAULT_RULES_VERSION
    campaign.revision = 1
    campaign.create_time.FromMilliseconds(now_ms)
    return campaign


def shown(stored: Campaign) -> Campaign:
    """A campaign as callers see it: with its etag, which is never stored."""
    campaign = _without(stored)
    campaign.etag = etag(stored)
    return campaign


def etag(stored: Campaign) -> str:
    """Changes with everything that is stored."""
    return sha256(stored.SerializeToString(deterministic=True)).hexdigest()[:16]


def fields(request: UpdateCampaignRequest) -> tuple[str, ...]:
    """Fields that an edit sets. Raises ApiError INVALID_FIELDS for a campaign without a name, and other paths."""
    name = request.campaign.name
    if not name.startswith("campaigns/") or "/" in id_of(name):
        raise invalid_fields([("campaign.name", "is not the name of a campaign")])
    paths = list(request.update_mask.paths)
    if paths == [ALL]:
        return EDITABLE
    if not paths:
        return tuple(field.name for field, _ in request.campaign.ListFields() if field.name in EDITABLE)
    wrong = sorted(set(paths) - set(EDITABLE))
    if wrong:
        raise invalid_fields([("update_mask", f"{path[:100]!r} is no field that can be edited") for path in wrong])
    return tuple(paths)


def edited(stored: Campaign, wanted: Campaign, changed: Iterable[str]) -> Campaign:
    """The stored campaign with some fields as wanted. Raises ApiError where it is archived, or makes no sense so."""
    if stored.archived:
        raise refusals.campaign_archived(id_of(stored.name))
    campaign = _without(stored, changed)
    campaign.MergeFrom(_without(wanted, {*OUTPUT_FIELDS, *EDITABLE}.difference(changed)))
    _require_sense(campaign)
    return campaign


def archived(stored: Campaign) -> Campaign:
    """The stored campaign, archived."""
    campaign = _without(stored)
    campaign.archived = True
    return campaign


def _without(campaign: Campaign, cleared: Iterable[str] = ()) -> Campaign:
    """A copy without some fields."""
    copy = Campaign()
    copy.CopyFrom(campaign)
    for field in cleared:
        copy.ClearField(field)  # type: ignore[arg-type] # the stubs want each name as a literal
    return copy


def _require_sense(campaign: Campaign) -> None:
    try:
        validate(campaign)
    except ApiError as error:
        raise invalid_fields([(f"campaign.{path}", wrong) for path, wrong in error.fields]) from None
    wrong = problems(campaign)
    if wrong:
        raise refusals.bad_terms(wrong)
