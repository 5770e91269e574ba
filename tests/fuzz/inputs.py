"""Generates requests for fuzzing: random ones from the descriptors, mutations of valid requests, and mutated bytes.

A seed determines the requests. A pool of values that services know (names, tokens, etags) grows with their responses,
so that requests pass the first checks. The generator is generic: a new RPC is fuzzed without a change here.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

NOBODY = "00000000-0000-4000-8000-000000000000"
#: Values in the pool for one field.
MAX_VALUES = 40
#: Request fields that accept the value of a response field.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "parent", "group", "campaign", "target"),
    "group": ("group", "parent", "name", "target"),
    "campaign": ("campaign", "target"),
    "consistency_token": ("consistency_token",),
    "share_token": ("share_token", "share_link", "parent_link"),
    "next_page_token": ("page_token",),
    "etag": ("etag",),
}
#: Texts that often cause errors.
TEXTS = (
    "", " ", "\0", "-", "0", "null", "../../etc/passwd", "a" * 101, "x" * 70_000, "é", "\U0001f37a" * 9, "%s%n", "{}",
    "groups/-", "groups/", "campaigns/", f"groups/{NOBODY}", f"groups/{NOBODY}/orders/{NOBODY}",
    f"groups/{NOBODY}/orders/{NOBODY}/payment", "groups/" + "-" * 36, "campaigns/no-such", "*", "CNY", "USD", "ZZZ",
    "card_ok", "AAAA", "W10", "eyJhIjoxfQ", "1:2", "-1:-1", "0:99999999999999999999", NOBODY, NOBODY.upper(),
    "\u202e", "\ufeff", "1e999", "simulated", "stripe", "wechat", "window", "campaign.window", "tiers.members",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 99, 100, 500, 501, 2_000, 10_000, 10**12, 10**12 + 1, 253_402_300_800, 315_576_000_001)
EDGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
#: Bytes of a mutated request, and of a random one that is too large for every service.
TOO_LARGE = 300_000
DEPTH = 4


class Pool:
    """Known values by the name of the field that accepts them."""

    def __init__(self, known: Mapping[str, Sequence[str]], *, learns: bool = True) -> None:
        self._values = {field: list(values) for field, values in known.items()}
        self._learns = learns

    def value(self, field: str, chance: random.Random) -> str | None:
        """A value for the field; None without one."""
        values = self._values.get(field)
        return chance.choice(values) if values else None

    def learn(self, answer: Message, chance: random.Random) -> None:
        """Adds the values of a response."""
        if not self._learns:
            return
        for field, value in answer.ListFields():
            one: Any = value[0] if field.is_repeated and len(value) else value
            if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                if isinstance(one, Message):
                    self.learn(one, chance)
            elif isinstance(one, str) and one:
                for alias in ALIASES.get(field.name, ()):
                    values = self._values.setdefault(alias, [])
                    if len(values) < MAX_VALUES:
                        values.append(one)
                    else:
                        values[chance.randrange(MAX_VALUES // 2, MAX_VALUES)] = one


class Inputs:
    """Generates requests of one method. `good` are valid requests."""

    def __init__(self, request: Descriptor, good: Iterable[Message], pool: Pool, seed: int) -> None:
        self._request = request
        self._good = [(type(one), one.SerializeToString()) for one in good]
        self._make = GetMessageClass(request)
        self.pool = pool
        self.chance = random.Random(seed)

    def next(self) -> bytes:
        """Returns the next request."""
        chance = self.chance
        dice = chance.random()
        if dice < 0.02:
            return chance.randbytes(chance.choice((0, 1, 2, 5, 40, 400)))
        if dice < 0.021:
            return chance.randbytes(TOO_LARGE)
        if self._good and dice < 0.75:
            kind, data = chance.choice(self._good)
            message = kind.FromString(data)
            for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
                self._mutate(message)
        else:
            message = self._make()
            self._fill(message, 0)
        data = message.SerializeToString()
        return self._mutate_bytes(data) if dice > 0.85 else data

    def _fill(self, message: Any, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.chance.random() < 0.7:
                self._set(message, field, depth)

    def _mutate(self, message: Any) -> None:
        """Changes one field, at any depth."""
        field = self.chance.choice(message.DESCRIPTOR.fields)
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and self.chance.random() < 0.7:
            inner = getattr(message, field.name)
            if not field.is_repeated:
                if inner.DESCRIPTOR.fields:
                    self._mutate(inner)
                return
            if len(inner):
                self._mutate(self.chance.choice(inner))
                return
        self._set(message, field, 0)

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        message.ClearField(field.name)
        chance = self.chance
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if depth >= DEPTH or chance.random() < 0.1:
                return
            if field.is_repeated:
                for _ in range(chance.choice((0, 1, 1, 2, 3, 25))):
                    self._fill(getattr(message, field.name).add(), depth + 1)
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()
                self._fill(inner, depth + 1)
        elif field.is_repeated:
            values = [self._scalar(field) for _ in range(chance.choice((0, 1, 2, 7)))]
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self.chance
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_STRING:
                return self._bytes() if field.type == FieldDescriptor.TYPE_BYTES else self._text(field.name)
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return chance.choice((0.0, -1.5, float("inf"), float("nan")))
        low, high = EDGES[field.cpp_type]
        dice = chance.random()
        if field.enum_type is not None and dice < 0.9:
            # The first value means "unspecified". It is chosen often, as pictures and waits take time.
            return 0 if dice < 0.45 else chance.choice(field.enum_type.values).number
        if dice < 0.8:
            number = chance.choice(NUMBERS)
            return number if number <= high else 1
        return chance.choice((low, high, max(-1, low), chance.randint(low, high)))

    def _text(self, field: str) -> str:
        chance = self.chance
        dice = chance.random()
        known = self.pool.value(field, chance) if dice < 0.7 else None
        if known is not None and dice < 0.6:
            return known
        if known is not None:
            at = chance.randrange(len(known) + 1)
            torn = (
                known[:at],
                known + known,
                known[:at] + "Q" + known[at + 1 :],
                known.upper(),
                _mutate_page_token(known, chance),
            )
            return chance.choice(torn)
        if dice < 0.95:
            return chance.choice(TEXTS)
        return "".join(chr(chance.randrange(*chance.choice(((1, 128), (0xA0, 0xD7FF))))) for _ in range(30))

    def _bytes(self) -> bytes:
        chance = self.chance
        return chance.choice((b"", b"{}", b"[" * 2_000, chance.randbytes(30), b'{"key":1}', b"\xff" * 140_000))

    def _mutate_bytes(self, data: bytes) -> bytes:
        """The data with bits flipped and bytes inserted, deleted, repeated or cut off."""
        chance, torn = self.chance, bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = chance.randrange(len(torn) + 1)
            match chance.randrange(5):
                case 0 if at < len(torn):
                    torn[at] ^= 1 << chance.randrange(8)
                case 1:
                    torn[at:at] = chance.randbytes(chance.randrange(1, 9))
                case 2:
                    del torn[at : at + chance.randrange(1, 9)]
                case 3:
                    torn[at:at] = torn[: chance.randrange(len(torn) + 1)]
                case _:
                    del torn[at:]
        return bytes(torn[:TOO_LARGE])


def _mutate_page_token(token: str, chance: random.Random) -> str:
    """A page token with one part replaced; any other text unchanged."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        return token
    if not isinstance(parts, list) or not parts:
        return token
    odd: tuple[object, ...] = (2**31, 2**63, 2**64, 2**200, -1, -(2**70), "", "x" * 90, "\0", None, 1.5, True, [])
    parts[chance.randrange(len(parts))] = chance.choice(odd)
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
