"""The console on a secured stack: its identities `console` and `share` may do what its pages need, and no more."""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_GROUP_CHAT

from console.web import passwords
from devstack.product import CONSOLE, SERVICES, SHARE, WITH_CONSOLE
from devstack.stack import Stack
from devstack.supervision.waiting import wait_for
from groupbuy_client import Client, mtls

ANN, PASSWORD = "ann", "correct horse"
SOON_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("console")
    operators = directory / "operators"
    operators.write_text(f"{passwords.line(ANN, PASSWORD)}\n")
    own = {CONSOLE: {"GROUPBUY_CONSOLE_OPERATORS_FILE": str(operators)}}
    with Stack(directory / "run", secured=True, plan=WITH_CONSOLE, environment=own) as started:
        yield started


def client(stack: Stack, name: str) -> Client:
    """A client with an identity's certificate."""
    assert stack.credentials is not None
    issued = stack.credentials.issued[name]
    orders, groups, payments = (stack.endpoints[service] for service in SERVICES)
    certificate = mtls(issued.certificate, issued.key, issued.ca)
    return Client(orders=orders, groups=groups, payments=payments, credentials=certificate, timeout_s=20.0)


def page(stack: Stack, path: str, form: dict[str, str] | None = None, listener: str = CONSOLE) -> tuple[int, str]:
    """Status and text of a page for operators, or of the share page."""
    login = base64.b64encode(f"{ANN}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Sec-Fetch-Site": "same-origin"}
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(f"http://{stack.endpoints[listener]}{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.timeout(180)
def test_the_pages_read_and_repair_with_their_own_identities(stack: Stack) -> None:
    with client(stack, "merchant") as merchant, client(stack, "shop") as shop:
        campaign = merchant.create_campaign(
            product="Mug", currency="CNY", solo_price_minor=9_900, capacity=5, tiers=[(2, 8_900)],
            window=timedelta(minutes=30), hold_window=timedelta(seconds=30),
        ).name  # fmt: skip
        group = ""
        for customer in ("ann", "bob"):
            placed = shop.place_order(
                campaign=campaign, group=group, customer=customer, currency="CNY", max_unit_price_minor=8_900,
                payment_method="card_ok",
            )  # fmt: skip
            group = placed.order.group
        token = shop.create_share_link(target=group, inviter="ann", channel=SHARE_CHANNEL_GROUP_CHAT).share_token
        assert wait_for(lambda: shop.get_group(group).confirmed_members == 2, timeout_s=SOON_S, every_s=0.2)
    assert wait_for(lambda: "Mug" in page(stack, "/")[1], timeout_s=SOON_S, every_s=0.3), stack.log(CONSOLE)[-2000:]
    for path, words in (
        (f"/{group}", "confirmed, 2 members"),
        ("/books", "¥178.00"),
        ("/health", "checkpoint"),
        ("/repair", "Nothing is owed, stuck or in suspense."),
    ):
        assert wait_for(lambda path=path, words=words: words in page(stack, path)[1], timeout_s=SOON_S), path  # type: ignore[misc]
        assert page(stack, path)[0] == 200
    status, text = page(stack, f"/s/{token}", listener=SHARE)
    assert status == 200 and "¥89.00" in text and "bob" not in text
    form = {"name": group, "reason": "the maker recalls it"}
    status, text = page(stack, "/repair/CancelGroup", form)
    (confirmation,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = page(stack, "/repair/CancelGroup", {"token": confirmation})
    assert status == 200 and "The log has it" in text
    with client(stack, "shop") as shop:
        assert wait_for(lambda: shop.get_group(group).settled, timeout_s=SOON_S, every_s=0.2)
    order = placed.order.name
    adjust = {
        "name": f"{order}/payment", "from_account": "3", "to_account": "11", "amount_minor": "5", "currency": "CNY",
        "reason": "rounding",
    }  # fmt: skip
    status, text = page(stack, "/repair/AdjustLedger", adjust)
    (confirmation,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = page(stack, "/repair/AdjustLedger", {"token": confirmation})
    assert status == 200, text
    # Its own identity proposed it, so another one has to approve it.
    _, text = page(stack, "/repair")
    (approval,) = re.findall(r'href="/repair/ApproveAdjustment\?name=[^"]*proposal=([0-9a-f-]{36})"', text)
    status, text = page(
        stack, "/repair/ApproveAdjustment", {"name": f"{order}/payment", "proposal": approval, "reason": "checked"}
    )
    assert status == 422 and "PERMISSION_DENIED" in text
    # What a link leads to is read once a second at most.
    cancelled = "This group was cancelled"
    assert wait_for(lambda: cancelled in page(stack, f"/s/{token}", listener=SHARE)[1], timeout_s=SOON_S, every_s=0.2)
