"""An independent check of a run: `audit` reads everything again, `wait_quiet` waits until nothing is left to do."""

from ops.audit.findings import Invariant, Violation
from ops.audit.report import Report
from ops.audit.run import Marks, NotQuiet, audit, marks, wait_quiet

__all__ = ["Invariant", "Marks", "NotQuiet", "Report", "Violation", "audit", "marks", "wait_quiet"]
