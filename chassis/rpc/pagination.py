"""Pagination of sorted lists (AIP-158).

A page token holds the sort key of the last item of the page and not a count, so that items that come and go before it
move nothing. It is opaque but no secret, and comes from outside: every part of it is checked.
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
from chassis.rpc.validation import invalid_field

T = TypeVar("T")
#: Sort key of an item: 64-bit integers and strings, of the same types in every item of a list.
Key = tuple[int | str, ...]


class Page(NamedTuple, Generic[T]):
    """The items of a page, and the token of the next page; empty for the last page."""

    items: list[T]
    next_token: str


class PageRequest:
    """A request for one page. `scope` identifies the list: all request fields that stay the same from page to page."""

    def __init__(self, scope: str, kinds: tuple[type[int] | type[str], ...], page_size: int, token: str) -> None:
        """`kinds` are the types of the sort key. Raises ApiError INVALID_FIELDS for the token of another list."""
        self.size = page_size
        self._scope = sha256(scope.encode()).hexdigest()[:12]
        #: Sort key after which this page begins; None for the first page.
        self.after: Key | None = self._decoded(token, kinds) if token else None

    def page_of(self, items: Iterable[T], key: Callable[[T], Key]) -> Page[T]:
        """Builds the page from all items, in any order."""
        after = self.after
        rest = items if after is None else (item for item in items if key(item) > after)
        return self.page_of_sorted(nsmallest(self.size + 1, rest, key=key), key)

    def page_of_sorted(self, items: list[T], key: Callable[[T], Key]) -> Page[T]:
        """Builds the page from sorted items after `after`. With more items than the size, it is not the last page."""
        if len(items) <= self.size:
            return Page(items, "")
        items = items[: self.size]
        return Page(items, self._encoded(key(items[-1])))

    def merge(self, items: Iterable[T], key: Callable[[T], Key], *, more: bool) -> Page[T]:
        """Builds the page from the items of several pages of this request, each of a different part of the list.

        `more`: at least one of those pages is not the last of its part.
        """
        first = nsmallest(self.size + 1, items, key=key)
        if more and 0 < len(first) <= self.size:
            return Page(first, self._encoded(key(first[-1])))
        return self.page_of_sorted(first, key)

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
            raise invalid_field("page_token", "is of another list: only page_size may change between pages")
        return tuple(parts[1:])


class PageSize(NamedTuple):
    """The number of items of one page: `default` unless the request names one, and `limit` at most."""

    default: int
    limit: int

    def of(self, requested: int) -> int:
        """The size for a request."""
        return min(requested, self.limit) if requested > 0 else self.default


def _can_be(part: int | str) -> bool:
    """Whether the part is valid in a sort key: JSON allows larger integers, and strings with lone surrogates."""
    if isinstance(part, int):
        return -(1 << 63) <= part < 1 << 63
    return not any("\ud800" <= character <= "\udfff" for character in part)


def _not_a_token() -> ApiError:
    return invalid_field("page_token", "is not a next_page_token")
