"""Pages of lists: which part of a sorted whole comes next, and the token that says so (AIP-158).

A token holds the sort key of the last item given, not a count: what comes and goes before it moves nothing. It is
opaque and no secret. Must never trust one: it comes from outside.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from heapq import nsmallest
from typing import Any, Generic, NamedTuple, TypeVar

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import invalid_fields

T = TypeVar("T")
#: Sort key of an item: whole numbers of 64 bits and texts, the same kinds in the same places in every item of a list.
Key = tuple[int | str, ...]


class Page(NamedTuple, Generic[T]):
    """Some items, and the token of what comes after them; empty: nothing does."""

    items: list[T]
    next_token: str


class Paging:
    """One request for a page. `scope` is all that must be the same from page to page."""

    def __init__(self, scope: str, kinds: tuple[type[int] | type[str], ...], page_size: int, token: str) -> None:
        """`kinds` are those of the sort key's parts. Raises ApiError INVALID_FIELDS for a token of anything else."""
        self.size = page_size
        self._scope = sha256(scope.encode()).hexdigest()[:12]
        #: Sort key after which this page begins; None: it is the first.
        self.after: Key | None = self._decoded(token, kinds) if token else None

    def of(self, items: Iterable[T], key: Callable[[T], Key]) -> Page[T]:
        """The page, of items in any order."""
        after = self.after
        rest = items if after is None else (item for item in items if key(item) > after)
        return self.cut(nsmallest(self.size + 1, rest, key=key), key)

    def cut(self, items: list[T], key: Callable[[T], Key]) -> Page[T]:
        """The page, of sorted items that come after `after`. One more than the size tells that it is not the last."""
        if len(items) <= self.size:
            return Page(items, "")
        items = items[: self.size]
        return Page(items, self._encoded(key(items[-1])))

    def joined(self, items: Iterable[T], key: Callable[[T], Key], *, more: bool) -> Page[T]:
        """The page, of the items of several pages of this request, each of another part of the list; `more`: one of
        those is not the last of its part."""
        first = nsmallest(self.size + 1, items, key=key)
        if more and 0 < len(first) <= self.size:
            return Page(first, self._encoded(key(first[-1])))
        return self.cut(first, key)

    def _encoded(self, key: Key) -> str:
        plain = json.dumps([self._scope, *key], separators=(",", ":"))
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    def _decoded(self, token: str, kinds: tuple[type[int] | type[str], ...]) -> Key:
        try:
            plain = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            parts: Any = json.loads(plain)
        except (binascii.Error, ValueError, RecursionError):
            raise _not_a_token() from None
        if (
            not isinstance(parts, list)
            or [type(part) for part in parts] != [str, *kinds]
            or not all(map(_can_be, parts))
        ):
            raise _not_a_token()
        if parts[0] != self._scope:
            raise invalid_fields([("page_token", "is of another list: only page_size may change from page to page")])
        return tuple(parts[1:])


def page_size(asked: int, *, default: int, most: int) -> int:
    """Items in one page: the default where nothing is asked for, never above the most."""
    return min(asked, most) if asked > 0 else default


def _can_be(part: int | str) -> bool:
    """Whether a list can have such a part in a sort key: JSON knows greater numbers, and texts that are no Unicode."""
    if isinstance(part, int):
        return -(1 << 63) <= part < 1 << 63
    return not any("\ud800" <= character <= "\udfff" for character in part)


def _not_a_token() -> ApiError:
    return invalid_fields([("page_token", "is not a next_page_token")])
