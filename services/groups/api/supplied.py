"""Whether the installation has the inventory service, which answers the groups of a campaign with stock or a limit.

Checked when a campaign is created or edited: without answers, its orders would wait until their groups close.
"""

from __future__ import annotations

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from services.groups.api import errors as refusals
from services.groups.domain.terms import INVALID_FIELDS, Problem


def require_supplied(campaign: Campaign, *, inventory: bool) -> None:
    """Raises ApiError for a field that needs the inventory service in an installation without it."""
    needed = [name for name in ("stock", "limit_per_customer") if getattr(campaign, name)]
    if needed and not inventory:
        problem = "needs the inventory service, which this installation does not have"
        raise refusals.bad_terms([Problem(name, INVALID_FIELDS, problem) for name in needed])
