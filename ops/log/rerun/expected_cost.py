"""The cost that a merchant has to expect because a completed group keeps its price when captures fail. Writes nothing.

Each capture fails with the same chance, independently of the others. The expectation is exact, not drawn.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p

from services.groups.domain.pricing import kept_price_cost
from services.groups.domain.terms import Terms


@lru_cache(maxsize=65_536)
def expected_cost_of_a_piece(terms: Terms, unit_price_minor: int, members: int, failed_captures: float) -> float:
    """The expected cost in minor units for each piece of a group that completed with `members` at a price.

    `failed_captures` is the chance of a failure, 0 to 1. Members of one group differ in their pieces, but each has the
    same chance to be charged. So `charged` of them have the share charged / members of all pieces, on average.
    """
    expected = 0.0
    for charged in range(1, members + 1):
        cost = kept_price_cost(terms, unit_price_minor, charged, pieces=1)
        if cost:
            expected += _chance(members, members - charged, failed_captures) * cost * charged / members
    return expected


def _chance(members: int, failed: int, share: float) -> float:
    """The chance that exactly `failed` of the members fail, by the binomial distribution."""
    if share in {0.0, 1.0}:
        return float(failed == members * share)
    ways = lgamma(members + 1) - lgamma(failed + 1) - lgamma(members - failed + 1)
    return exp(ways + failed * log(share) + (members - failed) * log1p(-share))
