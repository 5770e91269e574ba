"""Builder of a provider's statement."""

from __future__ import annotations

from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from tests.scenarios.facts import GROUP


def statement_entry(
    order: str,
    hold: str,
    authorised: int,
    captured: int = 0,
    released: int = 0,
    refunded: int = 0,
    *,
    wire: str = "",
) -> StatementEntry:
    """The entry of a hold; what is neither captured nor released is open. Amounts in minor units."""
    return StatementEntry(
        hold=hold,
        order=order,
        group=GROUP,
        currency="CNY",
        authorised_minor=authorised,
        captured_minor=captured,
        released_minor=released,
        refunded_minor=refunded,
        open_minor=authorised - captured - released,
        captures=1 if captured else 0,
        wire=wire,
    )
