"""The product's own audit of a simulated sale, fed with every record as it is appended.

All rules are those of ops.audit, which imports no service.
"""

from __future__ import annotations

from ops.audit.auditor import Auditor
from ops.audit.findings import TITLES, Findings, Invariant
from ops.audit.fold import AUDIT_TOPICS
from tests.simulation.audit.violation import Violation
from tests.simulation.world.broker import Record


class RaisedFindings(Findings):
    """Raises the first violation."""

    def breach(self, invariant: Invariant, group: str, order: str, what: str) -> None:
        """Raises Violation."""
        raise Violation(TITLES[invariant], group, f"{order}: {what}" if order else what)


class ProductAuditor:
    """The audit of one sale. The world has no payments, so only groups, stock items and allowances are compared."""

    def __init__(self, partitions: int) -> None:
        self.audit = Auditor(partitions, with_inputs=True, findings=RaisedFindings())

    def watch(self, record: Record) -> None:
        """Checks a record that was appended. Raises Violation."""
        if record.topic in AUDIT_TOPICS:
            self.audit.take(record.topic, (record,))

    def check_quiet(self) -> None:
        """Compares the logs where every message has arrived. Raises Violation."""
        self.audit.check_pieces(RaisedFindings(), settled=False)

    def check_end(self) -> None:
        """Compares the logs when nothing is left to do. Raises Violation."""
        self.audit.check_pieces(RaisedFindings(), settled=True)
