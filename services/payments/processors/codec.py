"""Bytes of a group's payments in the state directory: field values in the order of declaration in the model."""

from __future__ import annotations

from eventlog.records.packed import Packed
from services.payments.domain.state.model import GroupPayments

_PACKED: Packed[GroupPayments] = Packed(GroupPayments)

encode = _PACKED.encode
#: Raises msgspec.DecodeError for other bytes.
decode = _PACKED.decode
