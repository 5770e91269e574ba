"""Share tokens: a link survives encoding, and every other token is refused with its reason."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_kernel.share_links.share_link_codec import MAX_CHANNEL, MAX_DEPTH, MAX_TIME_S, encode
from shared_kernel.share_links.share_link_token import (
    SIGNATURE_BYTES,
    Keys,
    Link,
    LinkRefused,
    Refusal,
    link_id,
    require,
)

NOW_S = 1_700_000_000
GROUP = "0b6a0c2e-0f54-5a4e-9a59-3f3a5f1f7a10"
OTHER_GROUP = "1b6a0c2e-0f54-5a4e-9a59-3f3a5f1f7a10"
FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
KEYS = Keys({"k1": FIRST, "k2": SECOND})
LINK = Link("ann", 2, NOW_S, NOW_S + 3600, group=GROUP)
OFFER = Link("ann", 2, NOW_S, NOW_S + 3600, campaign="mug")
FORWARD = replace(LINK, depth=2, parent=link_id(LINK), inviter="7b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11")
ALL = (LINK, OFFER, FORWARD)


def refused(token: str, keys: Keys = KEYS, now_s: int = NOW_S) -> Refusal:
    with pytest.raises(LinkRefused) as caught:
        keys.open(token, now_s)
    assert len(token) < 20 or token not in str(caught.value)
    return caught.value.reason


def raw(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(body: bytes, key: bytes = FIRST) -> str:
    """A token of any bytes with a valid signature."""
    return text(body + hmac.digest(key, body, "sha256")[:SIGNATURE_BYTES])


ids = st.one_of(st.uuids().map(str), st.text(st.characters(codec="utf-8"), max_size=40))
links = st.builds(
    Link,
    inviter=ids,
    channel=st.integers(1, MAX_CHANNEL),
    issued_s=st.integers(0, MAX_TIME_S),
    expires_s=st.integers(NOW_S + 1, MAX_TIME_S),
    campaign=st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
) | st.builds(
    Link,
    inviter=ids,
    channel=st.integers(1, MAX_CHANNEL),
    issued_s=st.integers(0, MAX_TIME_S),
    expires_s=st.integers(NOW_S + 1, MAX_TIME_S),
    group=st.uuids().map(str),
    depth=st.integers(2, MAX_DEPTH),
    parent=st.binary(min_size=8, max_size=8).map(bytes.hex),
)


@given(links)
def test_a_link_survives_its_token_and_the_token_is_url_safe(link: Link) -> None:
    token = KEYS.sign(link)
    assert token.replace("-", "").replace("_", "").isalnum()
    opened = KEYS.open(token, NOW_S)
    assert opened.link == link
    assert KEYS.sign(opened.link) == token
    assert opened.link_id == link_id(link)


def test_a_token_is_short_also_as_a_forward() -> None:
    assert [len(KEYS.sign(link)) for link in (LINK, FORWARD)] == [70, 96]


def test_the_id_of_a_link_does_not_change_with_the_key_that_signs_it() -> None:
    turned = Keys({"k2": SECOND, "k1": FIRST})
    assert turned.sign(LINK) != KEYS.sign(LINK)
    assert turned.verify(turned.sign(LINK)).link_id == KEYS.verify(KEYS.sign(LINK)).link_id


@pytest.mark.parametrize("link", ALL)
def test_every_single_bit_counts_and_each_flip_has_the_right_reason(link: Link) -> None:
    data = raw(KEYS.sign(link))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        why = refused(text(bytes(flipped)))
        if bit // 8 == 0:
            assert why is Refusal.MALFORMED, "the version"
        elif bit // 8 == 1:
            assert why in {Refusal.UNKNOWN_KEY, Refusal.MALFORMED}, "the length of the key's id"
        elif bit // 8 in {2, 3}:
            # The key id is not text, unknown, or that of another key.
            changed = bytes(flipped[2:4])
            expected = Refusal.BAD_SIGNATURE if changed == b"k2" else Refusal.UNKNOWN_KEY
            assert why is (expected if max(changed) < 128 else Refusal.MALFORMED)
        else:
            assert why is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("link", ALL)
def test_every_single_character_counts(link: Link) -> None:
    token = KEYS.sign(link)
    for at, character in enumerate(token):
        for other in "AQgw9_-~ =+/é":
            if other != character:
                assert refused(token[:at] + other + token[at + 1 :]) is not Refusal.EXPIRED


CHANGES = {
    "inviter": "bob",
    "channel": 3,
    "issued_s": NOW_S - 1,
    "expires_s": NOW_S + 3601,
    "group": OTHER_GROUP,
    "parent": "00" * 8,
    "depth": 3,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changed_under_the_old_signature_is_refused(field: str) -> None:
    changed = replace(FORWARD, **{field: CHANGES[field]})  # type: ignore[arg-type] # fields by name
    signature = raw(KEYS.sign(FORWARD))[-SIGNATURE_BYTES:]
    assert refused(text(encode(changed, "k1") + signature)) is Refusal.BAD_SIGNATURE


def test_the_key_id_is_signed_too() -> None:
    signature = raw(KEYS.sign(LINK))[-SIGNATURE_BYTES:]
    assert refused(text(encode(LINK, "k2") + signature)) is Refusal.BAD_SIGNATURE
    assert refused(text(encode(LINK, "k9") + signature)) is Refusal.UNKNOWN_KEY
    same = Keys({"k1": FIRST, "k2": FIRST})
    assert refused(text(encode(LINK, "k2") + signature), same) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("link", ALL)
def test_a_truncated_token_is_refused(link: Link) -> None:
    token = KEYS.sign(link)
    for length in range(len(token)):
        assert refused(token[:length]) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.UNKNOWN_KEY}
        assert refused(token[length + 1 :]) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.UNKNOWN_KEY}
    assert refused("") is Refusal.MALFORMED


@pytest.mark.parametrize("more", ["A", "AA", "AAAA", "=", "==", "\n", " ", ".", "%3D", "é"])
def test_an_extended_token_is_refused(more: str) -> None:
    token = KEYS.sign(LINK)
    for extended in (token + more, more + token):
        assert refused(extended) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE, Refusal.UNKNOWN_KEY}


def test_a_token_in_another_encoding_is_refused() -> None:
    token = KEYS.sign(LINK)
    assert refused(text(token.encode())) in {Refusal.MALFORMED, Refusal.UNKNOWN_KEY}
    assert refused(raw(token).hex()) in {Refusal.MALFORMED, Refusal.UNKNOWN_KEY}
    assert refused(base64.b64encode(raw(KEYS.sign(replace(LINK, inviter="?>?>?>?")))).decode()) is Refusal.MALFORMED
    assert refused(token + token) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE}
    assert refused("A" * 501) is Refusal.MALFORMED


def test_leftover_bits_of_the_last_character_have_to_be_zero() -> None:
    token = KEYS.sign(LINK)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(raw(token)) % 3 == 1, "this link's token has four bits to spare"
    spelled = [token[:-1] + one for one in alphabet if raw(token[:-1] + one) == raw(token)]
    assert len(spelled) == 16
    assert [refused(one) for one in spelled if one != token] == [Refusal.MALFORMED] * 15


def test_signed_bytes_in_another_form_are_refused() -> None:
    body = encode(LINK, "k1")
    uuid = encode(FORWARD, "k1")
    at = body.index(b"\x02\x03ann") + 5
    as_text = FORWARD.inviter.encode()
    marker = uuid.index(b"\x01" + bytes.fromhex(FORWARD.inviter.replace("-", "")))
    spelled_out = uuid[:marker] + b"\x02" + bytes((len(as_text),)) + as_text + uuid[marker + 17 :]
    for other in (
        body + b"\0",
        body[:at] + b"\x82\x00" + body[at + 1 :],
        body[:at] + b"\x82\x80\x80\x80\x00" + body[at + 1 :],
        body[:at] + b"\x00" + body[at + 1 :],
        body[: at + 1] + b"\x00" + body[at + 2 :],
        body[:4] + b"\x03" + body[5:],
        body[:10],
        spelled_out,
        b"\x01\x02k1\x01" + b"\xff" * 16 + b"\x02\x02\xff\xff\x01\x01" + b"\0" * 8,
    ):
        assert other != body
        assert refused(signed(other)) is Refusal.MALFORMED


def test_a_link_is_valid_until_the_second_of_its_expiry() -> None:
    token = KEYS.sign(LINK)
    assert KEYS.open(token, LINK.expires_s - 1).link == LINK
    assert refused(token, now_s=LINK.expires_s) is Refusal.EXPIRED
    assert KEYS.verify(token).link == LINK


def test_the_signature_is_checked_before_the_expiry() -> None:
    data = bytearray(raw(KEYS.sign(replace(LINK, expires_s=1))))
    data[-1] ^= 1
    assert refused(text(bytes(data))) is Refusal.BAD_SIGNATURE


def test_keys_are_rotated_without_a_gap() -> None:
    before, during, after = (
        Keys.parse("a:" + "01" * 32),
        Keys.parse(f"b:{'02' * 32},a:{'01' * 32}"),
        Keys.parse("b:" + "02" * 32),
    )
    old, new = before.sign(LINK), during.sign(LINK)
    assert during.open(old, NOW_S).link == during.open(new, NOW_S).link == LINK
    assert after.open(new, NOW_S).link == LINK
    assert refused(old, after) is Refusal.UNKNOWN_KEY


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a:",
        "a:zz",
        ":" + "00" * 32,
        "a:0011",
        f"a:{'00' * 32},a:{'11' * 32}",
        f"a b:{'00' * 32}",
        f"{'k' * 17}:{'00' * 32}",
    ],
)
def test_invalid_keys_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        Keys.parse(text)
    assert "00" * 32 not in str(caught.value)


def test_keys_are_not_shown() -> None:
    assert repr(KEYS) == "Keys(k1, k2)"
    assert not Keys.parse(" , ")
    with pytest.raises(ValueError, match="no signing key"):
        Keys({}).sign(LINK)
    with pytest.raises(LinkRefused):
        Keys({}).verify(KEYS.sign(LINK))


@pytest.mark.parametrize(
    ("link", "campaign", "group", "why"),
    [
        (LINK, "mug", GROUP, None),
        (LINK, "mug", OTHER_GROUP, Refusal.WRONG_GROUP),
        (LINK, "mug", "", Refusal.WRONG_GROUP),
        (OFFER, "mug", "", None),
        (OFFER, "mug", GROUP, None),
        (OFFER, "pot", "", Refusal.WRONG_CAMPAIGN),
    ],
)
def test_a_link_is_valid_for_its_target_only(link: Link, campaign: str, group: str, why: Refusal | None) -> None:
    if why is None:
        require(link, campaign=campaign, group=group)
        return
    with pytest.raises(LinkRefused) as caught:
        require(link, campaign=campaign, group=group)
    assert caught.value.reason is why


@pytest.mark.parametrize(
    "changes",
    [
        {"campaign": "mug"},
        {"group": ""},
        {"group": "no uuid"},
        {"depth": 0},
        {"depth": 2},
        {"parent": "00" * 8},
        {"depth": MAX_DEPTH + 1, "parent": "00" * 8},
        {"channel": 0},
        {"channel": MAX_CHANNEL + 1},
        {"inviter": "é" * 101},
        {"expires_s": MAX_TIME_S + 1},
        {"issued_s": -1},
    ],
)
def test_a_link_that_does_not_fit_a_token_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        KEYS.sign(replace(LINK, **changes))  # type: ignore[arg-type] # fields by name


def test_the_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr("shared_kernel.share_links.share_link_token.hmac.compare_digest", compare)
    token = KEYS.sign(LINK)
    KEYS.verify(token)
    refused(token[:-2] + ("AA" if token[-2:] != "AA" else "QA"))
    assert [len(left) == len(right) == SIGNATURE_BYTES for left, right in compared] == [True, True]
