"""Pages begin after a key; a token belongs to one list, and any other is refused."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.rpc.errors import ApiError
from chassis.rpc.pagination import Key, PageRequest, PageSize

KINDS = (int, str)


def key(item: tuple[int, str]) -> Key:
    return item


def paging(size: int, token: str = "", scope: str = "list") -> PageRequest:
    return PageRequest(scope, KINDS, size, token)


@given(
    st.sets(st.tuples(st.integers(-9, 9), st.text(max_size=3))),
    st.sets(st.tuples(st.integers(-9, 9), st.text(max_size=3))),
    st.integers(1, 7),
)
def test_items_that_stay_are_listed_exactly_once(
    there: set[tuple[int, str]], comes_and_goes: set[tuple[int, str]], size: int
) -> None:
    seen: list[tuple[int, str]] = []
    token, odd = "", False
    while True:
        items = there | comes_and_goes if odd else there
        page = paging(size, token).page_of(items, key)
        assert len(page.items) <= size
        seen += page.items
        token, odd = page.next_token, not odd
        if not token:
            break
    assert seen == sorted(set(seen))
    assert there <= set(seen)


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@given(
    st.one_of(
        st.text(min_size=1),
        st.binary(min_size=1).map(lambda data: base64.urlsafe_b64encode(data).decode()),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(encoded),
    )
)
def test_an_invalid_token_is_refused_with_its_field(token: str) -> None:
    with pytest.raises(ApiError) as caught:
        paging(3, token)
    assert dict(caught.value.fields).keys() == {"page_token"}


@pytest.mark.parametrize("part", [(1 << 63, "a"), (-(1 << 63) - 1, "a"), (10**400, "a"), (1, "a\ud800")])
def test_a_token_with_an_impossible_key_is_refused(part: Key) -> None:
    content = base64.urlsafe_b64decode(paging(1).page_of([(1, "a"), (2, "b")], key).next_token + "==")
    with pytest.raises(ApiError, match="not a next_page_token"):
        paging(1, encoded([json.loads(content)[0], *part]))


def test_a_token_belongs_to_one_list() -> None:
    token = paging(1).page_of([(1, "a"), (2, "b")], key).next_token
    assert paging(1, token).after == (1, "a")
    with pytest.raises(ApiError, match="of another list"):
        paging(1, token, scope="other")
    with pytest.raises(ApiError):
        PageRequest("list", (str, str), 1, token)


def test_a_page_has_a_size_within_bounds() -> None:
    size = PageSize(default=20, limit=100)
    assert [size.of(requested) for requested in (0, 1, 100, 101, 2**31 - 1)] == [20, 1, 100, 100, 100]
