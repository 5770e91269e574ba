"""Waiting calls share a transaction, and each gets its own answer. Method: many callers on one event loop."""

from __future__ import annotations

import asyncio

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.accounts.holds import KeyReused
from tests.unit.psp.account_books import HOLD, Books, authorise, capture


async def test_concurrent_calls_share_commits(books: Books) -> None:
    group_commit = GroupCommit(books.account_book)
    group_commit.start()
    answers = await asyncio.gather(*(group_commit.submit(authorise(f"{n}:authorise:1")) for n in range(1000)))
    await group_commit.stop()
    assert [answer.key for answer in answers] == [f"{n}:authorise:1" for n in range(1000)]
    assert len(books.statement()) == 1000
    assert books.account_book.commits < 20


async def test_a_refusal_reaches_only_its_caller(books: Books) -> None:
    group_commit = GroupCommit(books.account_book)
    group_commit.start()
    held, refused, captured = await asyncio.gather(
        group_commit.submit(authorise()),
        group_commit.submit(authorise(minor=101)),
        group_commit.submit(capture(70)),
        return_exceptions=True,
    )
    await group_commit.stop()
    assert isinstance(held, pb.CallResult)
    assert isinstance(refused, KeyReused)
    assert isinstance(captured, pb.CallResult)


async def test_a_failed_transaction_fails_its_callers_and_the_next_one_succeeds(books: Books) -> None:
    books.apply(authorise())
    group_commit = GroupCommit(books.account_book)
    group_commit.start()
    failed = await asyncio.gather(
        group_commit.submit(capture(-1)), group_commit.submit(authorise("b:authorise:1")), return_exceptions=True
    )
    assert all("CHECK constraint failed" in str(error) for error in failed)
    assert (await group_commit.submit(capture(70))).status == pb.STATUS_CAPTURED
    await group_commit.stop()


async def test_a_cancelled_callers_call_takes_effect_and_stop_writes_queued_calls(books: Books) -> None:
    group_commit = GroupCommit(books.account_book)
    group_commit.start()
    gone = asyncio.create_task(group_commit.submit(authorise()))
    waits = asyncio.create_task(group_commit.submit(authorise("b:authorise:1")))
    await asyncio.wait({gone}, timeout=0)
    gone.cancel()
    await group_commit.stop()
    assert (await waits).status == pb.STATUS_AUTHORISED
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert books.entry(HOLD).open_minor == 100
