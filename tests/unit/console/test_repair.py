"""Repairs: a preview of what the log gets, then the action; forms that follow the messages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND

from console.repair.actions import BadForm, actions, request_of
from console.repair.issues import shown_issue
from console.web.passwords import Operators, line
from tests.unit.console.pages_site import CUSTOMER, FORM, GROUP, PAYMENT, Site, basic, running


@pytest.fixture
async def repairs(tmp_path: Path) -> AsyncIterator[Site]:
    file = tmp_path / "operators"
    file.write_text(f"{line('ann', 'right')}\n{line('bob', 'other')}\n")
    async with running(Operators(file), user="ann") as made:
        yield made


async def test_a_repair_is_previewed_and_then_done(repairs: Site) -> None:
    _, text, _ = await repairs.get("/repair")
    assert "¥89.00 declined" in text and PAYMENT.removesuffix("/payment") in text
    status, text = await repairs.post("/repair/RetryCall", FORM)
    assert status == 200 and "Nothing was appended" in text
    (preview,) = repairs.service.requests
    assert preview.validate_only and preview.operation == 3 and preview.attempt == 1
    assert preview.reason == "the bank confirmed it (ann)"
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = await repairs.post("/repair/RetryCall", {"token": token})
    assert status == 200 and "The log has it" in text
    done = repairs.service.requests[1]
    assert not done.validate_only
    assert (done.request_id, done.reason, done.expected_version) == (preview.request_id, preview.reason, 7)


async def test_a_preview_has_the_events_of_the_decision_and_no_customer(repairs: Site) -> None:
    _, text = await repairs.post("/repair/RetryCall", FORM)
    assert "refund" in text and "What is decided" in text
    assert CUSTOMER not in text


async def test_an_issue_leads_to_the_filled_form_of_its_action(repairs: Site) -> None:
    _, text, _ = await repairs.get("/repair")
    links = [unescape(one) for one in re.findall(r'href="(/repair/[^"]+\?[^"]+)"', text)]
    retry = next(one for one in links if one.startswith("/repair/RetryCall"))
    _, text, _ = await repairs.get(retry)
    assert PAYMENT in text and f'<option value="{OPERATION_REFUND}" selected>refund' in text


async def test_a_group_is_cancelled_after_a_preview_of_all_that_follows(repairs: Site) -> None:
    form = {"name": GROUP, "reason": "recalled by the maker"}
    _, text = await repairs.post("/repair/CancelGroup", form)
    lines = re.findall(r"<li>([^<]*)</li>", text.partition('<ol class="events">')[2].partition("</ol>")[0])
    assert lines == [
        "CANCELLED: recalled by the maker (ann)",
        "0: seat released, group cancelled", "0: release requested, group cancelled",
        "1: seat released, group cancelled", "1: release requested, group cancelled",
        "2: seat released, group cancelled",
    ]  # fmt: skip
    assert "secret-customer" not in text and repairs.groups.requests == []
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = await repairs.post("/repair/CancelGroup", {"token": token})
    assert status == 200 and "The log has it" in text and "secret-customer" not in text
    (done,) = repairs.groups.requests
    assert (done.name, done.reason) == (GROUP, "recalled by the maker (ann)") and len(done.request_id) == 36
    _, text = await repairs.post("/repair/CancelGroup", form)
    assert "The rules refuse it: the group is cancelled, not forming" in text and "token" not in text


async def test_a_group_that_changed_since_the_preview_is_not_cancelled(repairs: Site) -> None:
    _, text = await repairs.post("/repair/CancelGroup", {"name": GROUP, "reason": "recalled"})
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    repairs.groups.found.version += 1
    status, text = await repairs.post("/repair/CancelGroup", {"token": token})
    assert status == 422 and "changed since the preview" in text
    assert repairs.groups.requests == []


async def test_an_outcome_is_fed_in_two_steps(repairs: Site) -> None:
    _, text, _ = await repairs.get("/repair/FeedOutcome", params={"name": PAYMENT})
    assert '<option value="captured">' in text and "reason" not in re.findall(r'name="([^"]+)"', text)
    _, text, _ = await repairs.get("/repair/FeedOutcome", params={"name": PAYMENT, "result": "captured"})
    fields = re.findall(r'name="([^"]+)"', text)
    assert {"result", "outcome.operation", "outcome.captured.hold", "outcome.captured.amount_minor"} <= set(fields)
    assert not {"outcome.origin", "outcome.operator", "outcome.declined.reason"} & set(fields)
    form = {
        "name": PAYMENT, "result": "captured", "outcome.operation": "2", "outcome.attempt": "1",
        "outcome.captured.hold": "pi_1", "outcome.captured.amount_minor": "8900", "outcome.captured.currency": "CNY",
        "reason": "the statement of Monday",
    }  # fmt: skip
    _, text = await repairs.post("/repair/FeedOutcome", form)
    (checked,) = repairs.service.requests
    assert checked.validate_only and checked.outcome.captured.amount_minor == 8_900 and "captured" in text
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    status, text = await repairs.post("/repair/FeedOutcome", {"token": token})
    assert status == 200 and "<dd>41</dd>" in text
    assert repairs.service.requests[1].reason == "the statement of Monday (ann)"
    assert (await repairs.post("/repair/FeedOutcome", form | {"result": "nonsense"}))[0] == 422
    assert len(repairs.service.requests) == 2


async def test_an_adjustment_is_approved_unless_the_service_needs_another_identity(repairs: Site) -> None:
    proposal = "1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21"
    form = {"name": PAYMENT, "proposal": proposal, "reason": "checked"}
    _, text = await repairs.post("/repair/ApproveAdjustment", form)
    assert repairs.service.requests[0].proposal == proposal and 'name="token"' in text
    repairs.service.refusal = "the proposer is console"
    status, text = await repairs.post("/repair/ApproveAdjustment", form)
    assert status == 422 and "PERMISSION_DENIED: the proposer is console" in text


async def test_only_a_preview_of_ones_own_can_be_confirmed(repairs: Site) -> None:
    _, text = await repairs.post("/repair/RetryCall", FORM)
    (token,) = re.findall(r'name="token" value="([^"]+)"', text)
    until, version, request, mac = token.split(".")
    for wrong in (
        "",
        "x",
        f"{int(until) + 1}.{version}.{request}.{mac}",
        f"{until}.{int(version) + 1}.{request}.{mac}",
        f"{until}.{version}.{request}.{mac[:-1]}{'1' if mac[-1] == '0' else '0'}",
        f"{until}.{version}.AAAA.{mac}",
    ):
        status, text = await repairs.post("/repair/RetryCall", {"token": wrong})
        assert status == 422 and "not from a preview of yours" in text
    assert (await repairs.post("/repair/GiveUpCall", {"token": token}))[0] == 422
    bob = basic("bob", "other")
    assert (await repairs.post("/repair/RetryCall", {"token": token}, **bob))[0] == 422
    assert len(repairs.service.requests) == 1


async def test_a_form_of_another_site_is_refused(repairs: Site) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-site"}):
        assert (await repairs.post("/repair/RetryCall", FORM, **headers))[0] == 403
    assert repairs.service.requests == []


@pytest.mark.parametrize("change", [{"reason": ""}, {"reason": "x" * 401}, {"operation": "x"}, {"attempt": "1.5"}])
async def test_a_form_with_an_error_calls_nothing_and_is_kept(repairs: Site, change: dict[str, str]) -> None:
    status, text = await repairs.post("/repair/RetryCall", FORM | change)
    assert status == 422 and 'role="alert"' in text and PAYMENT in text
    assert repairs.service.requests == []


async def test_what_the_rules_refuse_can_not_be_confirmed(repairs: Site) -> None:
    repairs.service.refusal = "nothing is pending"
    _, text = await repairs.post("/repair/RetryCall", FORM)
    assert "The rules refuse it: nothing is pending" in text and "token" not in text


def test_every_action_has_a_form_that_its_request_takes() -> None:
    found = actions()
    assert {"RetryCall", "GiveUpCall", "ReleaseMember", "MarkReturnedOutside", "KeepSuspense"} <= found.keys()
    assert "ListIssues" not in found
    assert {"ApproveAdjustment", "FeedOutcome", "CancelGroup"} <= found.keys()
    for action in found.values():
        if action.results:
            continue
        values = {"choice": "1", "number": "5", "text": "x", "check": "on"}
        form = {"name": PAYMENT} | {field.name: values[field.kind] for field in action.fields}
        request = request_of(action, form, "why")
        assert {field.name for field, _ in request.ListFields()} >= {field.name for field in action.fields}
    for result, _ in found["FeedOutcome"].results:
        chosen = found["FeedOutcome"].with_result(result)
        form = {"name": PAYMENT, "result": result} | {one.name: values[one.kind] for one in chosen.fields}
        request = request_of(found["FeedOutcome"], form, "why")
        assert request.outcome.WhichOneof("result") == result  # type: ignore[attr-defined]
    with pytest.raises(BadForm):
        request_of(found["RetryCall"], {"name": PAYMENT, "attempt": "99999999999"}, "why")


@pytest.mark.parametrize(
    ("issue", "steps"),
    [
        (pb.Issue(kind=pb.ISSUE_KIND_OWED, amount_minor=5, hold="h", reference="r"), 2),
        (pb.Issue(kind=pb.ISSUE_KIND_CALL, operation=OPERATION_REFUND, attempt=2), 3),
        (pb.Issue(kind=pb.ISSUE_KIND_SUSPENSE, amount_minor=5, hold="h"), 2),
        (pb.Issue(kind=pb.ISSUE_KIND_DISPUTE, reference="d"), 0),
        (pb.Issue(kind=pb.ISSUE_KIND_ADJUSTMENT, reference="1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21"), 1),
    ],
)
def test_the_steps_of_an_issue_are_forms_with_fields_that_exist(issue: pb.Issue, steps: int) -> None:
    issue.payment, issue.currency = PAYMENT, "CNY"
    found = shown_issue(issue)
    assert found.link == f"/{PAYMENT.removesuffix('/payment')}" and len(found.steps) == steps
    known = actions()
    for _, link in found.steps:
        address = urlsplit(link)
        given = parse_qs(address.query)
        action = known[address.path.removeprefix("/repair/")]
        assert given.pop("name") == [PAYMENT]
        assert given.keys() <= {field.name for field in action.fields}
        # What the issue knows is filled in: the request needs only a reason.
        form = {"name": PAYMENT} | {name: values[0] for name, values in given.items()}
        request_of(action, form, "why")
