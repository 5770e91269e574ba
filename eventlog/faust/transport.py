"""Faust transport that delivers whole partition batches. Registered with Faust as `eventlog://host:port`."""

from __future__ import annotations

from faust.transport.drivers import aiokafka as driver

from eventlog.faust.consumer import BatchConsumer
from eventlog.faust.producer import BatchProducer


class Transport(driver.Transport):  # type: ignore[misc]
    """The aiokafka driver with our consumer and producer."""

    Consumer = BatchConsumer
    Producer = BatchProducer
