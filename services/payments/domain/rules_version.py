"""Versions of the payment rules. The first input that leads to a decision fixes the version of a group's payments.

The writer of an input stamps it with a version (PaymentInput.rules_version); without a stamp it is 1. Version 1 decides
as builds before there were versions. The rules differ where they ask `payments.rules_version`; no module is copied.

Version 2: a refund that the provider refuses is owed and pursued, and PaymentReleased waits for it; unexpected funds
wait in suspense before their return; retries have an end; a hold that is lost while the group forms is reported to it.
Before the version of the writers is raised, every process has to run a build that knows the new one: an older process
stops at it. So an upgrade begins with the setting RULES_VERSION at the older version.
"""

from __future__ import annotations

from services.payments.domain.errors import UnknownInput

FIRST = 1
#: The version that new groups get, unless the setting RULES_VERSION names an earlier one.
CURRENT = 2
KNOWN = frozenset({1, 2})


class UnknownRules(UnknownInput):
    """A rules version that this build does not know."""


def check(rules_version: int) -> int:
    """The version itself. Raises UnknownRules."""
    if rules_version in KNOWN:
        return rules_version
    newest = max(KNOWN)
    raise UnknownRules(
        f"payment rules version {rules_version}: this build knows versions up to {newest}. "
        f"Deploy a build that knows version {rules_version}"
    )
