"""The table of outcomes in docs/glossary.md uses the names of the code and leaves out none of a group."""

from __future__ import annotations

import re
from pathlib import Path

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.orders.v1.orders_pb2 import OrderState

from services.groups.domain.model import OrderStatus
from services.payments.domain.state.status import Status

GLOSSARY = Path(__file__).parents[3] / "docs" / "glossary.md"


def names(column: int) -> set[str]:
    """Names in one column of the table; of a state with its reason only the state."""
    section = GLOSSARY.read_text(encoding="utf-8").split("### Outcomes of an order")[1].split("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [row[column].split(",")[0] if column == 3 else row[column] for row in rows]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_table_names_statuses_of_payments() -> None:
    assert names(1) <= {status.value for status in Status}


def test_the_table_names_every_status_of_an_order_in_its_group() -> None:
    assert names(2) == {status.name for status in OrderStatus}


def test_the_table_names_every_state_of_the_api() -> None:
    states = {name.removeprefix("ORDER_STATE_") for name in OrderState.keys()}  # noqa: SIM118 - not a dict
    assert names(3) == states - {"UNSPECIFIED"}


def test_the_table_names_events_of_groups() -> None:
    assert names(4) <= {field.name for field in GroupEvent.DESCRIPTOR.fields}
