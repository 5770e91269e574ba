"""The tables of watch that mirror the services, and the counting of ages."""

from __future__ import annotations

from ops.watch.folding.summary import PROVIDERS, Money, OpenHold, Summary
from ops.watch.folding.totals import KeptPrice, Totals, first_ms, older
from ops.watch.view import figures

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOW_MS = 20_000 * DAY_MS


def test_the_providers_are_those_of_the_shared_table_and_the_simulated_one_is_first() -> None:
    assert PROVIDERS == ("simulated", "stripe", "wechat")


def hold(age_ms: int, minor: int = 100) -> OpenHold:
    return OpenHold("CNY", "simulated", minor, NOW_MS - age_ms, NOW_MS - age_ms + 7 * DAY_MS)


def test_open_holds_are_counted_by_age() -> None:
    totals = Totals()
    totals.add(Summary(holds=[hold(0), hold(2 * HOUR_MS), hold(2 * DAY_MS), hold(6 * DAY_MS, 50)]))
    assert older(totals.holds["CNY"], NOW_MS) == {"0": (4, 350), "1h": (3, 250), "1d": (2, 150), "5d": (1, 50)}
    assert first_ms(totals.lapses["simulated"]) == NOW_MS + DAY_MS


def test_a_removed_summary_leaves_no_trace() -> None:
    summary = Summary(
        end="settled",
        orders={"settled": 2},
        money={"CNY": Money(held=100, captured=90, charged=90, kept=90)},
        holds=[hold(0)],
        unsettled_since_ms=NOW_MS,
        pending=1,
    )
    totals = Totals()
    totals.add(summary)
    totals.add(summary, -1)
    assert (totals.pending, totals.unsettled, totals.holds, totals.lapses) == (0, {}, {"CNY": {}}, {"simulated": {}})
    assert totals.money == {"CNY": Money()}
    assert (totals.groups, totals.orders) == ({"settled": 0}, {"settled": 0})


def test_books_that_do_not_balance_are_named() -> None:
    totals = Totals()
    totals.add(Summary(end="settled", money={"CNY": Money(charged=90, kept=90)}))
    assert list(totals.unbalanced()) == []
    totals.add(Summary(end="settled", money={"CNY": Money(charged=90, kept=80)}))
    assert list(totals.unbalanced()) == [("CNY", 180, 170)]
    # Work under way may have one side before the other.
    totals.add(Summary(money={"JPY": Money(charged=0, kept=80)}, pending=1))
    assert list(totals.unbalanced()) == [("CNY", 180, 170)]


def kept_price(minor: int, campaign: str = "mug", currency: str = "CNY") -> Summary:
    return Summary(end="settled", kept_price_minor=minor, campaign=campaign, currency=currency)


def test_kept_prices_are_counted_by_campaign_and_currency() -> None:
    one, two = Totals(), Totals()
    one.add(kept_price(100))
    one.add(kept_price(50))
    one.add(Summary(end="settled"))
    two.add(kept_price(7))
    two.add(kept_price(900, "lamp"))
    two.add(kept_price(30, "lamp", "EUR"))
    one.merge(two)
    assert one.kept_prices == {
        "mug": {"CNY": KeptPrice(3, 157)},
        "lamp": {"CNY": KeptPrice(1, 900), "EUR": KeptPrice(1, 30)},
    }
    assert one.kept_prices_by_currency() == {"CNY": KeptPrice(4, 1_057), "EUR": KeptPrice(1, 30)}
    shown = figures(one, [], NOW_MS)["kept_prices"]
    assert shown["lamp"] == {"CNY": {"groups": 1, "cost_minor": 900}, "EUR": {"groups": 1, "cost_minor": 30}}
    one.add(kept_price(900, "lamp"), -1)
    assert one.kept_prices["lamp"]["CNY"] == KeptPrice()


def test_the_sums_of_workers_add_up() -> None:
    one, two, whole = Totals(), Totals(), Totals()
    summaries = [
        Summary(end="settled", orders={"settled": 1}, money={"CNY": Money(held=7)}, holds=[hold(age)])
        for age in (0, HOUR_MS, DAY_MS)
    ]
    for number, summary in enumerate(summaries):
        whole.add(summary)
        (one if number % 2 else two).add(summary)
    merged = Totals()
    merged.merge(one)
    merged.merge(two)
    assert merged.money == whole.money
    assert sorted(merged.holds["CNY"].items()) == sorted(whole.holds["CNY"].items())
    assert merged.orders == whole.orders
