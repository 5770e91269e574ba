"""The operator actions of the contract: each method of OperatorService that changes something, as a form.

The forms follow the messages, so a new method or field appears without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from groupbuy.payments.v1 import operator_pb2

SERVICE = operator_pb2.DESCRIPTOR.services_by_name["OperatorService"]
#: Methods that are not for these pages: one takes raw results of a provider, and an adjustment has to be approved by
#: another identity than its proposer's, while the console has one for all operators.
_ELSEWHERE = frozenset({"FeedOutcome", "ApproveAdjustment"})
#: Fields that the page fills in by itself.
_OWN = frozenset({"name", "request_id", "reason", "validate_only", "expected_version"})
_NUMBERS = frozenset({FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64})
#: Meanings for people; a method without one shows its name alone.
_MEANINGS: Mapping[str, str] = {
    "RetryCall": "Retries a pending call, or the refund of what is owed, now.",
    "GiveUpCall": "Stops a pending call for good.",
    "ReleaseMember": "Releases a member of a stuck settlement instead of charging it.",
    "FailMember": "Fails a member of a stuck settlement: its charge counts as declined.",
    "MarkReturnedOutside": "Records that an amount owed reached the customer by other means.",
    "ApproveReturn": "Returns unexpected funds now.",
    "KeepSuspense": "Assigns unexpected funds to the merchant.",
    "AdjustLedger": "Proposes an adjustment of the ledger; another identity has to approve it.",
    "ResolveUnknown": "States the result of a call whose result is unknown.",
}


class BadForm(ValueError):
    """A field of the form is not valid. The message names it."""


class Field(NamedTuple):
    """A field of a form."""

    name: str
    label: str
    #: text, number, choice or check.
    kind: str
    #: Value and text of each choice.
    choices: list[tuple[str, str]]


class Action(NamedTuple):
    """One method."""

    name: str
    title: str
    meaning: str
    fields: list[Field]
    method: MethodDescriptor


def actions() -> dict[str, Action]:
    """All actions by the name of their method."""
    found = {}
    for method in SERVICE.methods:
        names = method.input_type.fields_by_name
        if "validate_only" in names and "reason" in names and method.name not in _ELSEWHERE:
            fields = [_field(one) for one in method.input_type.fields if one.name not in _OWN]
            found[method.name] = Action(
                method.name, _spaced(method.name), _MEANINGS.get(method.name, ""), fields, method
            )
    return found


def request_of(action: Action, form: Mapping[str, str], reason: str) -> Message:
    """The request of a form, without its request id. Raises BadForm."""
    request = GetMessageClass(action.method.input_type)()
    _set(request, "name", form.get("name", "").strip())
    _set(request, "reason", reason)
    for field in action.fields:
        descriptor = action.method.input_type.fields_by_name[field.name]
        text = form.get(field.name, "").strip()
        if field.kind == "check":
            _set(request, field.name, text == "on")
        elif text and (field.kind == "choice" or descriptor.type in _NUMBERS):
            try:
                _set(request, field.name, int(text))
            except ValueError:
                raise BadForm(f"{field.label}: {text!r} is not a number that it takes") from None
        elif text:
            _set(request, field.name, text)
    return request


def response_class(action: Action) -> type[Message]:
    """The class of the response."""
    return GetMessageClass(action.method.output_type)


def rows(message: Message) -> list[tuple[str, str]]:
    """The fields of a message as names and texts, nested ones with their path."""
    found: list[tuple[str, str]] = []
    for field, value in message.ListFields():
        label = field.name.replace("_", " ")
        if isinstance(value, Message):
            found += [(f"{label} {name}", text) for name, text in rows(value)]
        elif field.enum_type is not None and not isinstance(value, (list, tuple)):
            found.append((label, _choice(field.enum_type, value)))
        else:
            found.append((label, value.hex() if isinstance(value, bytes) else str(value)))
    return found


def _set(request: Message, name: str, value: Any) -> None:
    try:
        setattr(request, name, value)
    except (ValueError, TypeError) as error:
        raise BadForm(f"{name.replace('_', ' ')}: {error}") from None


def _field(field: FieldDescriptor) -> Field:
    label = field.name.replace("_", " ")
    if field.enum_type is not None:
        values = [
            (str(one.number), _choice(field.enum_type, one.number)) for one in field.enum_type.values if one.number
        ]
        return Field(field.name, label, "choice", values)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return Field(field.name, label, "check", [])
    return Field(field.name, label, "number" if field.type in _NUMBERS else "text", [])


def _choice(kind: EnumDescriptor, number: int) -> str:
    """`OPERATION_CAPTURE` of an enum Operation -> `capture`."""
    known = kind.values_by_number.get(number)
    if known is None:
        return str(number)
    prefix = "".join(f"_{one}" if one.isupper() else one for one in kind.name).upper().strip("_") + "_"
    return known.name.removeprefix(prefix).lower().replace("_", " ")


def _spaced(name: str) -> str:
    words = "".join(f" {one.lower()}" if one.isupper() else one for one in name).strip()
    return words[:1].upper() + words[1:]
