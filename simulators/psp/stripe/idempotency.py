"""Idempotency keys as Stripe keeps them: the answer to a key, a 500 included, for a configured time; then it is new.

Only while Behaviour.key_life_ms is set. Otherwise the account book alone honours keys, for ever, and a failed call can
be repeated under its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from simulators.psp.accounts.kept_answers import KeptAnswer
from simulators.psp.request_handler import RequestHandler
from simulators.psp.stripe.objects import Json, StripeError
from simulators.psp.stripe.requests import KEY_LIFE


class Answer(NamedTuple):
    """An answer, and whether its key keeps it: those to calls that did not begin to take effect are not kept."""

    status: int
    body: Json
    headers: dict[str, str]
    kept: bool = True


class IdempotentAnswers:
    """Answers by key, in the account book's file."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._kept = handler.book.kept_answers
        self._in_flight: set[str] = set()
        self._tasks: set[asyncio.Task[Answer]] = set()

    def close(self) -> None:
        """Ends calls whose callers have left."""
        for task in self._tasks:
            task.cancel()

    async def answer(self, request: web.Request, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """The stored answer of a request's key, or the one of `make`. Raises StripeError for a key in use."""
        life_ms = self._handler.faults.behaviour.key_life_ms
        key = request.headers.get("Idempotency-Key", "")
        if not life_ms or not key or request.method != "POST":
            return await make()
        form = sorted((name, str(value)) for name, value in (await request.post()).items())
        fingerprint = hashlib.sha256(json.dumps([request.path, form]).encode()).hexdigest()
        stored = await self._handler.run(lambda: self._kept.get(key))
        if stored is not None and self._handler.now_ms < stored.at_ms + life_ms:
            if stored.fingerprint != fingerprint:
                message = "Keys for idempotent requests can only be used with the parameters of their first use"
                raise StripeError(400, "idempotency_error", message)
            return Answer(stored.status, json.loads(stored.body), {"Idempotent-Replayed": "true"})
        if key in self._in_flight:
            message = "There is currently another in-progress request using this Idempotent Key"
            raise StripeError(409, "idempotency_error", message, "idempotency_key_in_use")
        request[KEY_LIFE] = stored.life + 1 if stored is not None else 0
        self._in_flight.add(key)
        # A caller that leaves does not end its call.
        task = asyncio.create_task(self._make(key, fingerprint, request[KEY_LIFE], make))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _make(self, key: str, fingerprint: str, life: int, make: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            answer = await make()
            if answer.kept:
                made = KeptAnswer(fingerprint, life, answer.status, json.dumps(answer.body), self._handler.now_ms)
                await self._handler.run(lambda: self._kept.put(key, made))
            return answer
        finally:
            self._in_flight.discard(key)
