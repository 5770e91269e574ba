"""What the payments API needs of the rest of the process. The wiring gives it; tests give their own."""

from __future__ import annotations

from typing import TypeAlias

from eventlog.aggregate import Aggregate
from eventlog.view import View
from services.payments.domain.state import Purse

#: The payment decider's table.
PursesView: TypeAlias = View[Aggregate[Purse]]
