"""Validation of requests by the rules in the protos (protovalidate), before a servicer sees them.

The number of items is checked before the items: protovalidate checks the items first, so that a request of 254 KiB with
130,000 empty tiers occupied the event loop for seconds. An error names at most ten fields and no value: the value may
be a payment method. A string that does not match its pattern is reported in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from groupbuy.errors.v1 import errors_pb2
from groupbuy.vendored import validate_pb2
from protovalidate import Validator, Violation

from chassis.rpc.errors import MAX_FIELDS, ApiError

#: Items of a repeated field or map whose rules have no limit.
MAX_ITEMS = 1_000

_CAMPAIGN_ID = "1 to 63 lower-case letters, digits and hyphens"
_UUID = "UUIDs in lower case"

#: Description of each pattern of the protos. Other languages read the pattern from the proto; people read this.
PATTERNS = {
    "^[A-Z]{3}$": "must be an ISO 4217 code: three upper-case letters",
    "^([A-Z]{3})?$": "must be an ISO 4217 code (three upper-case letters), or empty",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": f"must be {_CAMPAIGN_ID}, with no hyphen at either end",
    "^campaigns/[a-z0-9-]{1,63}$": f"must be campaigns/{{campaign}}, where {{campaign}} is {_CAMPAIGN_ID}",
    "^groups/[0-9a-f-]{36}$": "must be groups/{group}, where {group} is a UUID in lower case",
    "^groups/([0-9a-f-]{36}|-)$": "must be groups/{group}, where {group} is a UUID in lower case, or groups/-",
    "^groups/[0-9a-f-]{36}/orders/[0-9a-f-]{36}$": (
        f"must be groups/{{group}}/orders/{{order}}, where {{group}} and {{order}} are {_UUID}"
    ),
    "^groups/([0-9a-f-]{36}|-)/orders/[0-9a-f-]{36}$": (
        "must be groups/{group}/orders/{order} or groups/-/orders/{order}, where {group} and {order} are "
        f"{_UUID}"
    ),
    "^groups/[0-9a-f-]{36}/orders/[0-9a-f-]{36}/payment$": (
        f"must be groups/{{group}}/orders/{{order}}/payment, where {{group}} and {{order}} are {_UUID}"
    ),
    "^(groups/[0-9a-f-]{36}|campaigns/[a-z0-9-]{1,63})$": (
        "must be groups/{group}, where {group} is a UUID in lower case, or campaigns/{campaign}, where {campaign} is "
        f"{_CAMPAIGN_ID}"
    ),
    "^stocks/[a-z0-9-]{1,63}$": f"must be stocks/{{stock}}, where {{stock}} is {_CAMPAIGN_ID}",
    "^(stocks/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$": (
        f"must be stocks/{{stock}}, where {{stock}} is {_CAMPAIGN_ID} with no hyphen at either end, or empty"
    ),
    "^[a-z][a-z0-9_]{0,31}$": "must be 1 to 32 lower-case letters, digits and underscores, starting with a letter",
}

#: Description of each rule whose own message is not plain.
RULES = {
    "enum.defined_only": "must be a value of its enum",
    "required": "must be set",
    "string.uuid": "must be a UUID",
    "string.uuid_empty": "must be a UUID",
}

# One a process: it caches the compiled rules of each message type.
_VALIDATOR = Validator()


class _Counted(NamedTuple):
    """A field with items, or a single message that has such fields at some depth."""

    name: str
    repeated: bool
    #: Limit of the items; unused for a single message.
    limit: int
    #: The fields of the item type to check; none for a map.
    inside: _Plan


_Plan = list[_Counted]
_PLANS: dict[str, _Plan] = {}


def prepare(request: type[Message]) -> None:
    """Compiles the rules of a type ahead of the first call. Raises CompilationError for invalid rules."""
    _VALIDATOR.collect_violations(request())
    _plan(request.DESCRIPTOR)


def validate(request: Message) -> None:
    """Raises ApiError INVALID_FIELDS, with the fields, if a request breaks the rules of its proto."""
    plan = _plan(request.DESCRIPTOR)
    if plan:
        found = next(_too_many(request, plan, ""), None)
        if found is not None:
            raise invalid_fields([found])
    violations = _VALIDATOR.collect_violations(request)
    if violations:
        fields = [(path(one.proto), describe(one)) for one in violations[:MAX_FIELDS]]
        raise invalid_fields(fields, len(violations))


def invalid_fields(fields: Sequence[tuple[str, str]], total: int = 0) -> ApiError:
    """The error for invalid fields, pairs of field path and reason. For servicers too.

    `total` is the number of invalid fields if `fields` are only the first of them.
    """
    first, reason = fields[0]
    total = total or len(fields)
    more = f" (and {total - 1} more)" if total > 1 else ""
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"{first}: {reason}{more}" if first else f"{reason}{more}",
        fields=fields,
    )


def describe(violation: Violation) -> str:
    """The broken rule in words."""
    proto = violation.proto
    if proto.rule_id == "string.pattern":
        return PATTERNS.get(violation.rule_value, "has the wrong format")
    if proto.rule_id == "string.min_len" and violation.rule_value == 1:
        return "must not be empty"
    return RULES.get(proto.rule_id) or proto.message or proto.rule_id or "is not valid"


def invalid_field(field: str, problem: str) -> ApiError:
    """The error for one invalid field. An empty `field` means the whole request."""
    return invalid_fields([(field, problem)])


def path(violation: Any) -> str:
    """Field path of a violation as in AIP-193: `campaign.tiers[1].members`. Empty for a rule of the message."""
    if violation.field is None:
        return ""
    parts: list[str] = []
    for element in violation.field.elements:
        subscript = element.subscript
        index = "" if subscript is None else f"[{subscript.value}]"
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts)


def _too_many(message: Message, plan: _Plan, prefix: str) -> Iterator[tuple[str, str]]:
    """The fields with too many items. Descends into the items of a field only if their number is allowed."""
    for one in plan:
        where = f"{prefix}{one.name}"
        if not one.repeated:
            if message.HasField(one.name):
                yield from _too_many(getattr(message, one.name), one.inside, f"{where}.")
            continue
        items = getattr(message, one.name)
        if len(items) > one.limit:
            yield where, f"must contain no more than {one.limit} item(s)"
        elif one.inside:
            for index, item in enumerate(items):
                yield from _too_many(item, one.inside, f"{where}[{index}].")


def _plan(kind: Any) -> _Plan:
    """The fields of a message type to check. Empty for nearly all requests, which cost one look-up."""
    plan = _PLANS.get(kind.full_name)
    if plan is None:
        # Stored before it is complete: a type may contain itself.
        plan = _PLANS[kind.full_name] = []
        plan += [one for field in kind.fields if (one := _counted(field)) is not None]
    return plan


def _counted(field: FieldDescriptor) -> _Counted | None:
    inner = field.message_type
    is_map = inner is not None and inner.GetOptions().map_entry
    inside = [] if inner is None or is_map else _plan(inner)
    if not field.is_repeated:
        return _Counted(field.name, False, 0, inside) if inside else None
    rules = field.GetOptions().Extensions[validate_pb2.field]
    limit = rules.map.max_pairs if is_map else rules.repeated.max_items
    return _Counted(field.name, True, limit or MAX_ITEMS, inside)
