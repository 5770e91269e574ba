"""docs/simulator.md names each fault, each call of a test and each route for importers."""

from __future__ import annotations

import re
from typing import Any

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from protos.generate import ROOT
from simulators.psp.request_handler import behaviour_of
from simulators.psp.settings import Settings

PAGE = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`]+)`", PAGE))
#: Calls of the merchant, which the page does not describe.
MERCHANTS = {"Authorise", "Capture", "Void", "Refund", "MakeCalls", "LookUp"}


def test_the_page_names_each_field_of_the_behaviour() -> None:
    assert {field.name for field in pb.Behaviour.DESCRIPTOR.fields} <= NAMED


def test_the_page_names_each_call_of_a_test() -> None:
    service = pb.DESCRIPTOR.services_by_name["SimProviderService"]
    assert {method.name for method in service.methods} - MERCHANTS <= NAMED


def test_each_setting_of_a_fault_reaches_the_behaviour() -> None:
    fields = {field.name for field in pb.Behaviour.DESCRIPTOR.fields}
    given: dict[str, Any] = {"latency": "lognormal", "decline_methods": ("x",), "decline_amounts_minor": (1,)}
    settings = Settings(**{name: given.get(name, 1) for name in fields})
    assert {field.name for field, _ in behaviour_of(settings).ListFields()} == fields
