"""Calls that wait together share a transaction; each gets its own answer. Method: many callers on one event loop."""

from __future__ import annotations

import asyncio

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.rules import KeyReused
from simulators.psp.writer import Writer
from tests.unit.psp.books import HOLD, Books, authorise, capture


async def test_calls_that_come_together_are_committed_together(books: Books) -> None:
    writer = Writer(books.ledger)
    writer.start()
    answers = await asyncio.gather(*(writer.submit(authorise(f"{n}:authorise:1")) for n in range(1000)))
    await writer.stop()
    assert [answer.key for answer in answers] == [f"{n}:authorise:1" for n in range(1000)]
    assert len(books.statement()) == 1000
    assert books.ledger.commits < 20


async def test_a_refusal_reaches_its_own_caller_alone(books: Books) -> None:
    writer = Writer(books.ledger)
    writer.start()
    held, refused, captured = await asyncio.gather(
        writer.submit(authorise()),
        writer.submit(authorise(minor=101)),
        writer.submit(capture(70)),
        return_exceptions=True,
    )
    await writer.stop()
    assert isinstance(held, pb.CallResult)
    assert isinstance(refused, KeyReused)
    assert isinstance(captured, pb.CallResult)


async def test_a_failed_transaction_fails_its_callers_and_the_next_one_goes_on(books: Books) -> None:
    books.ask(authorise())
    writer = Writer(books.ledger)
    writer.start()
    failed = await asyncio.gather(
        writer.submit(capture(-1)), writer.submit(authorise("b:authorise:1")), return_exceptions=True
    )
    assert all("CHECK constraint failed" in str(error) for error in failed)
    assert (await writer.submit(capture(70))).status == pb.STATUS_CAPTURED
    await writer.stop()


async def test_a_call_whose_caller_went_away_takes_effect_and_stop_writes_what_waits(books: Books) -> None:
    writer = Writer(books.ledger)
    writer.start()
    gone = asyncio.create_task(writer.submit(authorise()))
    waits = asyncio.create_task(writer.submit(authorise("b:authorise:1")))
    await asyncio.wait({gone}, timeout=0)
    gone.cancel()
    await writer.stop()
    assert (await waits).status == pb.STATUS_AUTHORISED
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert books.entry(HOLD).open_minor == 100
