"""Bytes of a purse in the state directory: the values of state.py and parts.py in the order of their declaration."""

from __future__ import annotations

from eventlog.records.packed import Packed
from services.payments.domain.model import GroupPayments

_PACKED: Packed[GroupPayments] = Packed(GroupPayments)

encode = _PACKED.encode
#: Raises msgspec.DecodeError for bytes that are no purse.
decode = _PACKED.decode
