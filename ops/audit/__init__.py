"""An independent check of a run. `audit` reads all topics again; `wait_quiet` waits until nothing is pending.

Imports no service (an import contract in pyproject.toml): a rule that service and audit share could be wrong in both.
"""

from ops.audit.findings import Invariant, Violation
from ops.audit.report import Report
from ops.audit.run import Marks, NotQuiet, audit, marks, wait_quiet

__all__ = ["Invariant", "Marks", "NotQuiet", "Report", "Violation", "audit", "marks", "wait_quiet"]
