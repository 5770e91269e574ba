"""Rules of the provider's own life: which payments it undoes, disputes or warns of, and its fees. Without storage.

A payment method's suffix selects an incident for certain; a share in the configured behaviour draws the others. A draw
depends on the seed and the subject alone, so it is the same in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import Hold
from simulators.psp.fault_injection import spread

#: Wire that returns its fee with a refund.
FEE_RETURNING_WIRE = "wechat"
#: Ends of payment methods that select an incident.
_REFUSE, _FAIL, _REVERSE, _DISPUTE, _FRAUD = INCIDENT_SUFFIXES = (
    "_refuse_refund",
    "_fail_refund",
    "_reverse_refund",
    "_dispute",
    "_fraud",
)


@dataclass(frozen=True, slots=True)
class LifeRules:
    """The rules for one behaviour. Amounts in the minor units of the hold's wire."""

    behaviour: pb.Behaviour = field(default_factory=pb.Behaviour)
    seed: str = "0"
    #: Whether a hold made over gRPC has no incident and no balance transaction, unless its method selects one.
    quiet: bool = field(init=False)

    def __post_init__(self) -> None:
        b = self.behaviour
        shares = (
            b.refund_refuse_per_mille,
            b.refund_fail_per_mille,
            b.refund_reverse_per_mille,
            b.dispute_per_mille,
            b.fraud_warning_per_mille,
        )
        object.__setattr__(self, "quiet", not any(shares) and not self._charges())

    def refuses_refund(self, hold: Hold, key: str) -> bool:
        """Whether a refund is declined."""
        return self._happens(hold, _REFUSE, self.behaviour.refund_refuse_per_mille, "refuse", key)

    def refund_undoing(self, hold: Hold, key: str) -> pb.Status.ValueType | None:
        """How a successful refund is undone later; None: it stays."""
        b = self.behaviour
        if self._happens(hold, _FAIL, b.refund_fail_per_mille, "fail", key):
            return pb.STATUS_REFUND_FAILED
        if self._happens(hold, _REVERSE, b.refund_reverse_per_mille, "reverse", key):
            return pb.STATUS_REFUND_REVERSED
        return None

    def disputes(self, hold: Hold) -> bool:
        """Whether the card holder disputes a payment."""
        return self._happens(hold, _DISPUTE, self.behaviour.dispute_per_mille, "dispute", hold.hold)

    def warns(self, hold: Hold) -> bool:
        """Whether the issuer warns of fraud."""
        return self._happens(hold, _FRAUD, self.behaviour.fraud_warning_per_mille, "fraud", hold.hold)

    def merchant_wins(self, dispute: str) -> bool:
        """Whether a dispute that nobody moves on ends for the merchant."""
        return spread(f"{self.seed}/life/win/{dispute}")[0] * 1000 < self.behaviour.dispute_win_per_mille

    def keeps_balance(self, wire: str, own: str) -> bool:
        """Whether balance transactions of a wire are kept; `own`: the wire of calls over gRPC."""
        return wire != own or self._charges()

    def fee_minor(self, amount_minor: int) -> int:
        """Fee for money taken: a share, rounded half up, and a fixed part."""
        b = self.behaviour
        if not b.fee_per_mille and not b.fee_fixed_minor:
            return 0
        return _share(amount_minor, b.fee_per_mille) + b.fee_fixed_minor

    def returned_fee_minor(self, wire: str, amount_minor: int) -> int:
        """Part of the fee that a refund returns."""
        return _share(amount_minor, self.behaviour.fee_per_mille) if wire == FEE_RETURNING_WIRE else 0

    def _charges(self) -> bool:
        b = self.behaviour
        return bool(b.keep_balance or b.fee_per_mille or b.fee_fixed_minor or b.dispute_fee_minor)

    def _happens(self, hold: Hold, suffix: str, per_mille: int, what: str, key: str) -> bool:
        if hold.payment_method.endswith(suffix):
            return True
        return bool(per_mille) and spread(f"{self.seed}/life/{what}/{key}")[0] * 1000 < per_mille


def _share(amount_minor: int, per_mille: int) -> int:
    return (amount_minor * per_mille + 500) // 1000
