"""Results of provider calls that need a person are counted. Method: outcomes as adapters return them."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from services.payments.providers.meter import ProviderMeter

NEEDED_MS = 1_700_000_000_000


def value(meter: ProviderMeter, name: str, provider: str) -> float:
    samples = [one for family in meter.metrics(dict)() for one in family.samples if one.name == name]
    return next(float(one.value) for one in samples if one.labels["provider"] == provider)


async def measure(meter: ProviderMeter, outcome: i.ProviderOutcome, method: str = "stripe_1") -> None:
    async def made() -> i.ProviderOutcome:
        return outcome

    call = ProviderCall(payment_method=method, operation=d.OPERATION_AUTHORISE, currency="EUR", hold_until_ms=NEEDED_MS)
    await meter.measure(call, made())


async def test_a_hold_that_ends_before_it_is_needed_is_counted() -> None:
    meter = ProviderMeter(("stripe",), lambda method: method.partition("_")[0])
    for until_ms, count in ((NEEDED_MS, 0), (NEEDED_MS + 1, 0), (0, 0), (NEEDED_MS - 1, 1)):
        outcome = i.ProviderOutcome()
        outcome.authorised.currency, outcome.authorised.capturable_until_ms = "EUR", until_ms
        await measure(meter, outcome)
        assert value(meter, "groupbuy_provider_short_holds_total", "stripe") == count


async def test_an_answer_in_another_currency_is_counted() -> None:
    meter = ProviderMeter(("stripe",), lambda method: method.partition("_")[0])
    for currency, count in (("EUR", 0), ("", 0), ("USD", 1)):
        outcome = i.ProviderOutcome()
        outcome.captured.currency = currency
        await measure(meter, outcome)
        assert value(meter, "groupbuy_provider_wrong_currency_total", "stripe") == count


async def test_a_call_of_a_method_without_a_provider_is_counted_as_unknown() -> None:
    meter = ProviderMeter(("stripe",), lambda method: "unknown")
    await measure(meter, i.ProviderOutcome(), "pm_1")
    assert value(meter, "groupbuy_provider_calls_in_flight", "unknown") == 0
    assert value(meter, "groupbuy_provider_call_seconds_count", "unknown") == 1
