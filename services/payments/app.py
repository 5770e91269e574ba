"""Builds the payments service. The only module that knows all of its parts."""

from __future__ import annotations

from groupbuy.payments.v1 import operator_pb2_grpc, payments_pb2_grpc

from chassis.admission.thread_priority import DECIDING
from chassis.lifecycle.connection import connection_of, publisher_of, router_of
from chassis.lifecycle.runner import Servicer, ServiceSpec
from chassis.outside.webhook_server import WebhookServer
from chassis.rpc.trace_context import TraceStarter
from chassis.telemetry.event_log import DecisionEventLog, EventLog
from chassis.telemetry.metrics.metrics_kernel import kernel_metrics
from eventlog.processors.effects import Effects
from eventlog.processors.processor_group import ProcessorGroup
from eventlog.processors.sequencer import Sequencer
from eventlog.runtime.wall_clock import wall_clock_ms
from services.payments.api.ledger_queries import LedgerQueries
from services.payments.api.operators.operator import OperatorServicer
from services.payments.api.payments import PaymentServicer
from services.payments.api.recorded_holds import RecordedHolds
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.ledger.processor import LedgerProcessor
from services.payments.processors.business_events import business_events
from services.payments.processors.decider import payment_decider
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.processors.return_limit import ReturnLimit
from services.payments.processors.sequencer import PaymentInboxMapper
from services.payments.providers import registry
from services.payments.providers.meter import NotificationMeter, ProviderMeter
from services.payments.settings import PaymentsSettings
from shared_kernel import topics

SERVICE = "groupbuy.payments.v1.PaymentService"
OPERATORS = "groupbuy.payments.v1.OperatorService"


def build(settings: PaymentsSettings) -> ServiceSpec:
    """Builds the parts; connects to nothing."""
    connection, skips = connection_of(settings)
    publisher = publisher_of(settings)
    version = settings.rules_version
    providers = registry.configured(settings)
    notifications = registry.notifications(settings, providers.locators())
    received = NotificationMeter(notifications.providers)
    mapper = PaymentInboxMapper(version, int(settings.check_holds_after_hours * 3_600_000))
    sequencer = Sequencer(topics.PAYMENTS_SEQUENCER, (topics.GROUP_LOG,), topics.PAYMENT_INBOX, mapper, connection)
    event_log = EventLog("services.payments.events", settings.event_lines_per_second)
    decider = payment_decider(connection, DecisionEventLog(event_log, business_events))
    calls = ProviderMeter(providers.health(), lambda method: providers.provider_for(method).name)
    handler = PaymentEffectHandler(
        providers.provider_for, wall_clock_ms, calls.measure, ReturnLimit(settings.returns_per_hour), version
    )
    effects = Effects(topics.PAYMENTS_EFFECTS, topics.PAYMENT_LOG, topics.PAYMENT_INBOX, handler, connection)
    ledger = LedgerProcessor(topics.PAYMENTS_LEDGER, topics.PAYMENT_LOG, connection)
    # Decider and ledger are two consumer groups, so a partition may have a different owner in each.
    router, ledger_router = (router_of(settings, SERVICE, one) for one in (decider, ledger))
    operator_router = router_of(settings, OPERATORS, decider)
    recorded = RecordedHolds(LedgerQueries(ledger, ledger_router))
    ingest = WebhookIngest(notifications, publisher, wall_clock_ms, received.count, version, recorded)
    webhooks = WebhookServer(settings.webhook_listen, ingest.ingest, providers.health if settings.insecure else None)
    trace_starter = TraceStarter(settings.trace_share)
    processors = (sequencer, decider, effects, ledger)
    return ServiceSpec(
        servicers=(
            Servicer(
                payments_pb2_grpc.add_PaymentServiceServicer_to_server,
                PaymentServicer(
                    decider,
                    publisher,
                    ingest,
                    ledger,
                    router=router,
                    ledger_router=ledger_router,
                    trace_starter=trace_starter,
                    rules_version=version,
                ),
                SERVICE,
            ),
            Servicer(
                operator_pb2_grpc.add_OperatorServiceServicer_to_server,
                OperatorServicer(
                    decider, publisher, router=operator_router, trace_starter=trace_starter, rules_version=version
                ),
                OPERATORS,
                for_people=True,
            ),
        ),
        publisher=publisher,
        processors=ProcessorGroup(
            processors,
            readers=(skips, webhooks),
            closing=(providers.close, router.close, ledger_router.close, operator_router.close),
        ),
        topics=topics.ALL,
        collectors=(kernel_metrics(processors, publisher), calls.metrics(providers.health), received.metrics),
        thread_priorities=DECIDING,
    )
