"""Checks requests against the rules written in the protos (protovalidate), before a servicer sees them.

Must never answer with the value that broke a rule: it may be a payment method.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from groupbuy.errors.v1 import errors_pb2
from protovalidate import Validator

from chassis.errors import ApiError

# One for the process: it keeps the compiled rules of each message type.
_VALIDATOR = Validator()


def prepare(request: type[Message]) -> None:
    """Compiles the rules of a type, so that the first call need not. Raises CompilationError for rules that make no
    sense."""
    _VALIDATOR.collect_violations(request())


def validate(request: Message) -> None:
    """Raises ApiError INVALID_FIELDS, naming each field, when a request breaks the rules of its proto."""
    violations = _VALIDATOR.collect_violations(request)
    if violations:
        fields = [(path(one.proto), one.proto.message or one.proto.rule_id or "is not valid") for one in violations]
        raise invalid_fields(fields)


def invalid_fields(fields: list[tuple[str, str]]) -> ApiError:
    """The error for fields that are wrong; pairs of field path and what is wrong there. For servicers too."""
    first, reason = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return ApiError(
        grpc.StatusCode.INVALID_ARGUMENT,
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"{first}: {reason}{more}" if first else f"{reason}{more}",
        fields=fields,
    )


def path(violation: Any) -> str:
    """Field path of a violation as AIP-193 writes it: `campaign.tiers[1].members`. Empty for a rule of the message."""
    if violation.field is None:
        return ""
    parts: list[str] = []
    for element in violation.field.elements:
        subscript = element.subscript
        index = "" if subscript is None else f"[{subscript.value}]"
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts)
