"""The operator actions of the contract as forms: the methods that change something and take a reason.

The forms follow the messages, so a new method or field appears without a change here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from groupbuy.groups.v1 import groups_pb2
from groupbuy.payments.v1 import operator_pb2

from ops.log.rendering.anonymous import PERSONAL_FIELDS

OPERATORS = operator_pb2.DESCRIPTOR.services_by_name["OperatorService"]
GROUPS = groups_pb2.DESCRIPTOR.services_by_name["GroupService"]
CANCEL, FEED = "CancelGroup", "FeedOutcome"
#: Fields that the page fills in by itself.
_OWN = frozenset({"name", "request_id", "reason", "validate_only", "expected_version"})
#: Fields of an outcome that the service sets, or that only a provider's report has.
_OF_THE_SERVICE = frozenset({"order", "origin", "operator", "reason", "environment"})
_RESULT = "result"
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
    "ApproveAdjustment": "Approves an adjustment that another identity than the console's proposed.",
    "ResolveUnknown": "States the result of a call whose result is unknown.",
    FEED: "Feeds the result of a provider's operation that a statement shows. It is a claim; the rules interpret it.",
    CANCEL: "Ends a forming group and releases all its members.",
}
GROUP_NAME = r"groups/[0-9a-f\-]{36}"
PAYMENT_NAME = rf"{GROUP_NAME}/orders/[0-9a-f\-]{{36}}/payment"


class BadForm(ValueError):
    """A field of the form is not valid. The message names it."""


class Field(NamedTuple):
    """A field of a form."""

    #: Path of the field in the request, with dots.
    name: str
    label: str
    #: text, number, choice or check.
    kind: str
    #: Value and text of each choice.
    choices: list[tuple[str, str]]
    descriptor: FieldDescriptor
    required: bool = False


class Action(NamedTuple):
    """One method."""

    name: str
    title: str
    meaning: str
    fields: list[Field]
    method: MethodDescriptor
    #: Name and text of the results from which the form's further fields follow; empty: the form is complete.
    results: list[tuple[str, str]]

    @property
    def service(self) -> str:
        """The service that has the method: groups or payments."""
        return "groups" if self.method.containing_service is GROUPS else "payments"

    @property
    def subject(self) -> str:
        """The kind of thing that it changes."""
        return "group" if self.name == CANCEL else "payment"

    @property
    def pattern(self) -> str:
        """The regular expression of the name that it takes."""
        return GROUP_NAME if self.name == CANCEL else PAYMENT_NAME

    def with_result(self, result: str) -> Action:
        """The same with the fields of one result. Raises BadForm."""
        if not self.results:
            return self
        outcome: Any = self.method.input_type.fields_by_name["outcome"].message_type
        if result not in {name for name, _ in self.results}:
            raise BadForm("result: choose one")
        inner = outcome.fields_by_name[result].message_type
        return self._replace(fields=[*self.fields, *_fields(inner, f"outcome.{result}.", frozenset())])


def actions() -> dict[str, Action]:
    """All actions by the name of their method."""
    return {
        method.name: _action(method)
        for service in (OPERATORS, GROUPS)
        for method in service.methods
        if "reason" in method.input_type.fields_by_name
    }


def _action(method: MethodDescriptor) -> Action:
    kind = method.input_type
    fields = list(_fields(kind, "", _OWN))
    results: list[tuple[str, str]] = []
    if (field := kind.fields_by_name.get("outcome")) is not None:
        outcome: Any = field.message_type
        one_of = outcome.oneofs_by_name[_RESULT]
        results = [(one.name, one.name.replace("_", " ")) for one in one_of.fields]
        left_out = _OF_THE_SERVICE | {one.name for one in one_of.fields}
        fields += [one._replace(required=False) for one in _fields(outcome, "outcome.", left_out)]
    return Action(method.name, _spaced(method.name), _MEANINGS.get(method.name, ""), fields, method, results)


def request_of(action: Action, form: Mapping[str, str], reason: str) -> Message:
    """The request of a form, without its request id. Raises BadForm."""
    request = GetMessageClass(action.method.input_type)()
    _set(request, "name", form.get("name", "").strip())
    _set(request, "reason", reason)
    if action.results:
        result = form.get(_RESULT, "")
        action = action.with_result(result)
        _set_present(request, result)
    for field in action.fields:
        text = form.get(field.name, "").strip()
        if field.kind == "check":
            _set(request, field.name, text == "on")
        elif text and (field.kind == "choice" or field.descriptor.type in _NUMBERS):
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
    """The fields of a message as names and texts, nested ones with their path, without personal data."""
    found: list[tuple[str, str]] = []
    for field, value in message.ListFields():
        label = field.name.replace("_", " ")
        if field.name in PERSONAL_FIELDS:
            continue
        if isinstance(value, Message):
            found += [(f"{label} {name}", text) for name, text in rows(value)]
        elif isinstance(value, (str, int, float, bool)) and field.enum_type is not None:
            found.append((label, _choice(field.enum_type, int(value))))
        elif isinstance(value, (str, int, float, bool, bytes)):
            found.append((label, value.hex() if isinstance(value, bytes) else str(value)))
        else:
            found += _repeated(label, value)
    return found


def _repeated(label: str, values: Any) -> Iterator[tuple[str, str]]:
    for number, one in enumerate(values, 1):
        if isinstance(one, Message):
            yield f"{label} {number}", ", ".join(f"{name} {text}" for name, text in rows(one))
        else:
            yield f"{label} {number}", str(one)


def _set_present(request: Any, result: str) -> None:
    """Chooses a result, also one without fields."""
    getattr(request.outcome, result).SetInParent()


def _set(request: Any, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        request = getattr(request, parent)
    try:
        setattr(request, name, value)
    except (ValueError, TypeError) as error:
        raise BadForm(f"{name.replace('_', ' ')}: {error}") from None


def _fields(kind: Descriptor, prefix: str, left_out: frozenset[str]) -> Iterator[Field]:
    for field in kind.fields:
        if field.name not in left_out and field.message_type is None:
            yield _field(field, prefix)


def _field(field: FieldDescriptor, prefix: str) -> Field:
    name, label = prefix + field.name, field.name.replace("_", " ")
    if field.enum_type is not None:
        values = [
            (str(one.number), _choice(field.enum_type, one.number)) for one in field.enum_type.values if one.number
        ]
        return Field(name, label, "choice", values, field, required=True)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return Field(name, label, "check", [], field)
    return Field(name, label, "number" if field.type in _NUMBERS else "text", [], field)


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
