"""Faults of records and files: bad records, faulty rules, old roots, a changed log, a certificate that expires."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

from devstack.product import WEBHOOKS
from shared_kernel.topics import GROUP_INBOX, ORDERS
from tests.chaos.poison import append_poison
from tests.drills.copied_site import CopiedSite
from tests.drills.drill import Variables, drill
from tests.drills.faulty_groups import FAULTY
from tests.drills.site import Site

PARTITION = 0


@drill("GroupbuyBooksDiffer", "GroupbuyCertificateExpires", fires_within_s=60.0)
def changed_log_and_old_certificate(site: Site) -> Iterator[Variables]:
    """A copy of the log at a second broker, in which one captured amount is changed, and a process with TLS there.

    A wrong entry in the log of the site itself would stay there. The certificate of the process expires in three
    days. Healed by stopping the watch of the copy, and by a new certificate in the place of the old one.
    """
    copied = CopiedSite(site)
    try:
        copied.start(certificate_life=timedelta(days=3))
        yield {"KAFKA": copied.kafka, "CERTIFICATE": str(copied.certificate)}
        copied.issue(timedelta(days=30))
        copied.watch_gone()
        site.observer.wait_ended("GroupbuyCertificateExpires", timeout_s=30)
    finally:
        copied.stop()


@drill("GroupbuyPartitionQuarantined")
def foreign_record_in_an_inbox(site: Site) -> Iterator[Variables]:
    """An undecodable record in the inbox of groups. A recorded skip heals it, as the runbook says."""
    poison = asyncio.run(append_poison(site.stack.kafka, "groups", GROUP_INBOX, PARTITION))
    try:
        yield {}
    finally:
        code, text = site.run(f"groupbuy-ops skip {GROUP_INBOX.name} {PARTITION} {poison.offset} --reason drill")
        assert code == 0, text


@drill("GroupbuyDeadLetters", "GroupbuyRulesFaulted", "GroupbuyWebhooksRefused")
def bad_inputs(site: Site) -> Iterator[Variables]:
    """An undecodable order fact, an order at which the planted rules raise, and a forged notification.

    The rules have no known defect, so tests/drills/faulty_groups.py plants one: the nearest real seam.
    """
    poison = asyncio.run(append_poison(site.stack.kafka, "groups", ORDERS, PARTITION))
    campaign = site.shop.campaign(capacity=3, tiers=((2, 8_900),))
    # The rules cancel a group that forms; then nothing of it is pending, and the audit has no open alarm.
    site.shop.place(campaign, site.shop.place(campaign).group, customer=FAULTY)
    request = urllib.request.Request(
        f"http://{site.stack.endpoints[WEBHOOKS]}/webhooks/stripe", b"{}", {"Stripe-Signature": "t=1,v1=00"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            raise AssertionError(f"a forged notification was accepted: {answer.status}")
    except urllib.error.HTTPError as error:
        assert 400 <= error.code < 500, error.code
    try:
        yield {}
    finally:
        code, text = site.run(f"groupbuy-ops skip {ORDERS.name} {PARTITION} {poison.offset} --reason drill")
        assert code == 0, text


@drill("GroupbuyLedgerRootOld")
def roots_not_written(site: Site) -> Iterator[Variables]:
    """The file of roots is given a time of an hour ago. The runbook's first command writes it again."""
    hour_ago = time.time() - 3_600
    os.utime(site.roots, (hour_ago, hour_ago))
    yield {}
