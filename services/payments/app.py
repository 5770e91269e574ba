"""Wires the payments service. The only place that knows all of its parts."""

from __future__ import annotations

from groupbuy.payments.v1 import payments_pb2_grpc

from chassis.admission.thread_priority import DECIDING
from chassis.lifecycle.connection import connection_of
from chassis.lifecycle.runner import Servicer, ServiceSpec
from chassis.outside.webhook_server import WebhookServer
from chassis.routing.partition_router import PartitionRouter
from chassis.routing.peer_calls import channel_factory
from eventlog.processors.decider import Decider
from eventlog.processors.effects import Effects
from eventlog.processors.processor_group import ProcessorGroup
from eventlog.processors.sequencer import Sequencer
from eventlog.producing.publisher import Publisher
from eventlog.records.codec import Codec
from services.payments.api.payments import PaymentServicer, wall_clock_ms
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.model import GroupPayments
from services.payments.ledger.processor import Ledger
from services.payments.processors import codec as codec_of_state
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.processors.sequencer import PaymentInboxMapper
from services.payments.providers import registry
from services.payments.settings import PaymentsSettings
from shared_kernel import topics

SERVICE = "groupbuy.payments.v1.PaymentService"
#: Changes with the meaning of a kept state, which is then folded anew from the log.
STATE_STAMP = "payments-3"


def build(settings: PaymentsSettings) -> ServiceSpec:
    """Makes the parts and connects to nothing."""
    connection, skips = connection_of(settings)
    publisher = Publisher(settings.brokers, client_id=settings.instance)
    providers = registry.configured(settings)
    notifying = WebhookIngest(registry.notifications(settings), publisher, wall_clock_ms)
    webhooks = WebhookServer(settings.webhook_listen, notifying.take, providers.health if settings.insecure else None)
    sequencer = Sequencer(
        topics.PAYMENTS_SEQUENCER, (topics.GROUP_LOG,), topics.PAYMENT_INBOX, PaymentInboxMapper(), connection
    )
    codec: Codec[GroupPayments] = Codec(STATE_STAMP, codec_of_state.encode, codec_of_state.decode)
    decider = Decider(
        topics.PAYMENTS_DECIDER, topics.PAYMENT_INBOX, topics.PAYMENT_LOG, GroupPaymentsDomain(), connection, codec
    )
    calling = PaymentEffectHandler(providers.provider_for, wall_clock_ms)
    effects = Effects(topics.PAYMENTS_EFFECTS, topics.PAYMENT_LOG, topics.PAYMENT_INBOX, calling, connection)
    ledger = Ledger(topics.PAYMENTS_LEDGER, topics.PAYMENT_LOG, connection)
    # Two consumer groups: the ledger of a partition may be elsewhere than its purses.
    replicas, of_books = (
        PartitionRouter(SERVICE, one, settings.address, channel_factory(settings)) for one in (decider, ledger)
    )
    return ServiceSpec(
        servicers=(
            Servicer(
                payments_pb2_grpc.add_PaymentServiceServicer_to_server,
                PaymentServicer(decider, publisher, notifying, ledger, replicas=replicas, of_books=of_books),
                SERVICE,
            ),
        ),
        publisher=publisher,
        processors=ProcessorGroup(
            (sequencer, decider, effects, ledger),
            readers=(skips, webhooks),
            closing=(providers.close, replicas.close, of_books.close),
        ),
        topics=topics.ALL,
        thread_priorities=DECIDING,
    )
