"""Wires the payments service. The only place that knows all of its parts."""

from __future__ import annotations

import time

from groupbuy.payments.v1 import payments_pb2_grpc

from chassis import topics
from chassis.process import Servicer, Wiring
from eventlog.decider import Decider
from eventlog.effects import Effects
from eventlog.fleet import Fleet
from eventlog.processor import Connection
from eventlog.publisher import Publisher
from eventlog.rocks import Codec
from eventlog.sequencer import Sequencer
from services.payments.api.payments import PaymentServicer
from services.payments.domain.domain import PurseDomain
from services.payments.domain.state import Purse
from services.payments.processors.effects import PaymentCalling
from services.payments.processors.sequencer import PaymentCopying
from services.payments.providers.registry import simulated
from services.payments.settings import PaymentsSettings

#: Changes with the meaning of a kept state, which is then folded anew from the log.
STATE_STAMP = "payments-1"


def wire(settings: PaymentsSettings) -> Wiring:
    """Makes the parts and connects to nothing."""
    connection = Connection(settings.kafka, settings.instance, settings.state_dir)
    publisher = Publisher(settings.kafka, client_id=settings.instance)
    providers = simulated(settings.provider)
    sequencer = Sequencer(
        topics.PAYMENTS_SEQUENCER, (topics.GROUP_LOG,), topics.PAYMENT_INBOX, PaymentCopying(), connection
    )
    codec: Codec[Purse] = Codec(STATE_STAMP)
    decider = Decider(
        topics.PAYMENTS_DECIDER, topics.PAYMENT_INBOX, topics.PAYMENT_LOG, PurseDomain(), connection, codec
    )
    calling = PaymentCalling(providers.provider_for, lambda: time.time_ns() // 1_000_000)
    effects = Effects(topics.PAYMENTS_EFFECTS, topics.PAYMENT_LOG, topics.PAYMENT_INBOX, calling, connection)
    return Wiring(
        servicers=(
            Servicer(
                payments_pb2_grpc.add_PaymentServiceServicer_to_server,
                PaymentServicer(decider),
                "groupbuy.payments.v1.PaymentService",
            ),
        ),
        publisher=publisher,
        processors=Fleet((sequencer, decider, effects), closing=(providers.close,)),
        topics=topics.ALL,
    )
