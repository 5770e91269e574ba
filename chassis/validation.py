"""Checks requests against the rules written in the protos (protovalidate), before a servicer sees them.

Must never answer with the value that broke a rule: it may be a payment method.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
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


class AllOf:
    """Whether all requests of a message `{ repeated T requests = 1; }` are valid, in two thirds of the time that
    `validate` takes for one after the other. The message's own rules don't count: they may leave its requests out."""

    def __init__(self, kind: type[Message]) -> None:
        self._list = _list_of(kind)
        prepare(self._list)

    def valid(self, message: Message) -> bool:
        """False: `validate` says which are not, and why."""
        read = self._list.FromString(message.SerializeToString())
        return not _VALIDATOR.collect_violations(read, fail_fast=True)


def _list_of(kind: type[Message]) -> type[Message]:
    """A type `{ repeated kind requests = 1; }` without rules of its own."""
    name = kind.DESCRIPTOR.full_name
    file = FileDescriptorProto(name=f"list_of/{name}", package=f"list_of.{name}", syntax="proto3")
    file.dependency.append(kind.DESCRIPTOR.file.name)
    requests = file.message_type.add(name="List").field.add(name="requests", number=1, type_name=f".{name}")
    requests.type, requests.label = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.LABEL_REPEATED
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.List"))


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
