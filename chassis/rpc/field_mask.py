"""The fields that an Update call sets, by its mask (AIP-134)."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from chassis.rpc.validation import invalid_fields

#: A mask of all editable fields.
ALL = "*"


def edited_fields(mask: FieldMask, message: Message, editable: tuple[str, ...]) -> tuple[str, ...]:
    """Fields that an edit sets: those of the mask, or without one the editable fields that `message` has.

    Raises ApiError INVALID_FIELDS for a field that is not editable.
    """
    paths = list(mask.paths)
    if paths == [ALL]:
        return editable
    if not paths:
        return tuple(field.name for field, _ in message.ListFields() if field.name in editable)
    unknown = sorted(set(paths) - set(editable))
    if unknown:
        raise invalid_fields([("update_mask", f"{path[:100]!r} is not an editable field") for path in unknown])
    return tuple(paths)
