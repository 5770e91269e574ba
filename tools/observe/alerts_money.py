"""Alerts about money: books, statements, holds, open groups, and the payment providers."""

from __future__ import annotations

from tools.observe.alert import Alert, Group, Severity

_DAY_AND_TWO_HOURS_S = 26 * 3_600

MONEY = Group(
    "groupbuy-money",
    (
        Alert(
            name="GroupbuyBooksDiffer",
            severity=Severity.CRITICAL,
            expr="sum by (invariant) (groupbuy_audit_differences) > THRESHOLD",
            threshold=0,
            measured="Every invariant holds after every chaos run (`make chaos`). No `for`: money does not wait.",
            summary="invariant {{ $labels.invariant }} is violated {{ $value }} times",
            impact="Somebody may have been charged wrongly.",
            cause="A defect, or a record that somebody else wrote into the log.",
            action="Stop nothing. `groupbuy-ops audit` names the group and the order.",
        ),
        Alert(
            name="GroupbuyReconciliationDiffers",
            severity=Severity.CRITICAL,
            expr="sum by (provider) (groupbuy_reconcile_differences) > THRESHOLD",
            threshold=0,
            measured="The ledger equals the statement after every chaos run, with 30 % of the calls timing out "
            "(`make chaos`). Entries in motion are not compared.",
            summary="{{ $value }} entries of {{ $labels.provider }} differ from our ledger",
            impact="The provider moved money that we do not know of, or we recorded money that it did not move.",
            cause="A movement outside the API, or a lost notification of a confirmed payment.",
            action="`groupbuy-ops reconcile` lists each entry with its way out; `--feed` records the provider's.",
        ),
        Alert(
            name="GroupbuyReconciliationMissing",
            severity=Severity.WARNING,
            expr="(time() - max by (provider) (groupbuy_reconcile_last_success_timestamp_seconds) > THRESHOLD)\n"
            "  or absent(groupbuy_reconcile_last_success_timestamp_seconds)",
            threshold=_DAY_AND_TWO_HOURS_S,
            drill_threshold=12,
            measured="Providers give a statement every 24 h; 2 h for a late one.",
            for_s=900,
            summary="no statement of a provider was compared for more than a day",
            impact="Differences to the provider stay unknown.",
            cause="Watch runs without --statement, or the provider gives none.",
            action="`groupbuy-ops reconcile` shows whether the provider answers.",
        ),
        Alert(
            name="GroupbuyLedgerRootOld",
            severity=Severity.WARNING,
            expr="(time() - max(groupbuy_ledger_root_last_timestamp_seconds) > THRESHOLD)\n"
            "  or absent(groupbuy_ledger_root_last_timestamp_seconds)",
            threshold=_DAY_AND_TWO_HOURS_S,
            drill_threshold=600,
            measured="Roots are written every 24 h; 2 h for a late job.",
            for_s=900,
            summary="no Merkle root of the ledger was stored for more than a day",
            impact="A change of the log since the last root can't be proven.",
            cause="The daily job did not run, or watch runs without --roots.",
            action="Run `groupbuy-ops ledger roots` and repair the job.",
        ),
        Alert(
            name="GroupbuyHoldsNearLapse",
            severity=Severity.CRITICAL,
            expr="min by (provider) (groupbuy_hold_lapses_in_seconds) < THRESHOLD",
            threshold=6 * 3_600,
            measured="A hold lives seven days and a group at most as long as its window, so a hold that is not "
            "captured 6 h before its end is overdue. 3,307 holds are captured within 35 s (`make chaos`).",
            summary="a hold at {{ $labels.provider }} lapses in {{ $value | humanizeDuration }}",
            impact="After that time the money can't be captured, and the seat is lost.",
            cause="A group is not settled, the provider is not called, or its holds are shorter than the window.",
            action="`groupbuy-ops stuck` names the group and why it waits.",
        ),
        Alert(
            name="GroupbuyGroupsUnsettled",
            severity=Severity.CRITICAL,
            expr="max(groupbuy_oldest_unsettled_group_seconds) > THRESHOLD",
            threshold=900,
            drill_threshold=62,
            measured="A full group is charged in 227 ms, p99 (`make bench-settle`); all are final 35 s after an "
            "outage of the provider of two minutes (`make chaos`).",
            for_s=300,
            summary="a group closed {{ $value | humanizeDuration }} ago and is not settled",
            impact="Shoppers do not know whether they are charged, and their holds age.",
            cause="The provider does not answer, or payments stands still.",
            action="`groupbuy-ops stuck` names the group, the order and the pending call.",
        ),
        Alert(
            name="GroupbuySuspense",
            severity=Severity.WARNING,
            expr="sum by (currency) (groupbuy_suspense_minor) > THRESHOLD",
            threshold=0,
            measured="Unexpected funds are returned after an hour; a refund takes one provider call, less than 1 s.",
            for_s=5_400,
            summary="{{ $value }} minor units of {{ $labels.currency }} belong to no order",
            impact="Money of somebody lies on our account.",
            cause="Funds that nobody asked for: the limit of returns is reached, or the provider does not take them.",
            action="`groupbuy-ops repair list` names the holds; return them, or keep what is yours.",
        ),
        Alert(
            name="GroupbuyRefundsOwed",
            severity=Severity.WARNING,
            expr="sum by (currency) (groupbuy_owed_minor) > THRESHOLD",
            threshold=0,
            measured="A refund takes one provider call, less than 1 s; after an outage of two minutes all are made "
            "within 35 s (`make chaos`).",
            for_s=900,
            summary="{{ $value }} minor units of {{ $labels.currency }} are owed to shoppers",
            impact="Shoppers wait for their money.",
            cause="The provider does not make the refunds.",
            action="`groupbuy-ops stuck` names the refunds; find why they fail at the provider.",
        ),
    ),
)

PROVIDER = Group(
    "groupbuy-provider",
    (
        Alert(
            name="GroupbuyProviderFailing",
            severity=Severity.WARNING,
            expr="sum by (provider) (rate(groupbuy_provider_calls_total"
            '{result=~"retry_later|not_possible|raised"}[5m]))\n'
            "  / sum by (provider) (rate(groupbuy_provider_calls_total[5m])) > THRESHOLD",
            threshold=0.05,
            measured="A quiet demo has none. With 30 % of the attempts timing out, retries within a call leave less "
            "than 3 % without a result (`make chaos`).",
            for_s=300,
            summary="{{ $value | humanizePercentage }} of the calls to {{ $labels.provider }} have no result",
            impact="Holds and captures are late. Each call is retried with the same idempotency key.",
            cause="The provider fails or is slower than CALL_SECONDS; not_possible: a wrong key, account or mode.",
            action="Compare the results by operation, and read the provider's status page.",
        ),
        Alert(
            name="GroupbuyProviderSlow",
            severity=Severity.WARNING,
            expr="histogram_quantile(0.9, sum by (le, provider) "
            "(rate(groupbuy_provider_call_seconds_bucket[5m]))) > THRESHOLD",
            threshold=2.5,
            measured="CALL_SECONDS is 5 s; a call that takes half of it is close to be retried. The simulated "
            "provider answers in less than 50 ms.",
            for_s=300,
            summary="calls to {{ $labels.provider }} take {{ $value | humanizeDuration }} (p90)",
            impact="Shoppers wait for their hold, and groups settle late.",
            cause="The provider is slow, or the network to it.",
            action="Compare the seconds by operation, and read the provider's status page.",
        ),
        Alert(
            name="GroupbuyProviderCircuitOpen",
            severity=Severity.CRITICAL,
            expr="max by (provider) (groupbuy_provider_circuit_open) >= THRESHOLD",
            threshold=1,
            measured="The circuit opens after a row of failed calls and closes with the first answer; two minutes "
            "without one are an outage (`make chaos`).",
            for_s=120,
            summary="{{ $labels.provider }} is not called at present",
            impact="No hold and no capture is made there. Calls are postponed, and none is lost.",
            cause="The provider does not answer.",
            action="Compare the results by operation, and read the provider's status page.",
        ),
        Alert(
            name="GroupbuyProviderTermsDiffer",
            severity=Severity.CRITICAL,
            expr="sum by (provider) (increase(groupbuy_provider_short_holds_total[15m])) > THRESHOLD\n"
            "  or sum by (provider) (increase(groupbuy_provider_wrong_currency_total[15m])) > THRESHOLD",
            threshold=0,
            measured="A campaign is refused if no provider holds for its window and a day more, so a quiet demo has 0. "
            "No `for`: a hold that ends too early is known when it is made.",
            summary="{{ $labels.provider }} answers on other terms than requested",
            impact="A hold that ends before its capture is renewed or lost; money in another currency is not counted.",
            cause="A card network with shorter holds, or an account that converts currencies.",
            action="The log of payments names the orders. Shorten the window of the campaign.",
        ),
        Alert(
            name="GroupbuyWebhooksRefused",
            severity=Severity.WARNING,
            expr="sum by (provider, result) (increase(groupbuy_webhooks_total"
            '{result=~"refused|failed"}[15m])) > THRESHOLD',
            threshold=0,
            measured="The provider's own notifications are never refused (`make contract`).",
            summary="notifications in the name of {{ $labels.provider }} are {{ $labels.result }}",
            impact="refused: if they are real, confirmed payments are seen late, by look-up. failed: the provider "
            "sends them again.",
            cause="refused: a secret that was changed on one side, or a forger. failed: the broker does not answer.",
            action="Compare the secrets on both sides.",
        ),
    ),
)
