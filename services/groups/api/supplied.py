"""Whether the installation takes campaigns with stock, a limit per customer, or times of start and end.

Checked when a campaign is created or edited. Without the inventory service's answers, orders of a campaign with stock
or a limit would wait until their groups close; and groups of these rules need tools that know them.
"""

from __future__ import annotations

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from services.groups.api import errors as refusals
from services.groups.domain.terms import INVALID_FIELDS, Problem

_FIELDS = ("stock", "limit_per_customer", "lease_ahead", "start_time", "end_time")


def require_supplied(campaign: Campaign, *, inventory: bool) -> None:
    """Raises ApiError for a field that needs the inventory service in an installation without it."""
    needed = [field.name for field, _ in campaign.ListFields() if field.name in _FIELDS]
    if needed and not inventory:
        problem = "needs the inventory service, which this installation does not have"
        raise refusals.bad_terms([Problem(name, INVALID_FIELDS, problem) for name in needed])
