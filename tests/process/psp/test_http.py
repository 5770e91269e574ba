"""The simulator's HTTP APIs: authentication, reused keys, rate limits, failures, the statement as CSV. The contract
suite tests the merchant's side. Method: plain HTTP to the whole server in this process."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.server import Server
from simulators.psp.settings import Settings
from tests import provider_simulator
from tests.process.psp.http_client import FORM


class Http:
    """HTTP client of the simulator with Stripe's key."""

    def __init__(self, session: aiohttp.ClientSession, address: str, grpc_address: str) -> None:
        self._session = session
        self._url = f"http://{address}"
        self._grpc = grpc_address

    async def post(self, path: str, key: str = "k1", /, **form: str) -> tuple[int, Any, Any]:
        headers = {"Authorization": "Bearer sk_test_simulated", "Idempotency-Key": key}
        async with self._session.post(self._url + path, data=form, headers=headers) as answer:
            return answer.status, await answer.json(), answer.headers

    async def get(self, path: str) -> tuple[int, str]:
        headers = {"Authorization": "Bearer sk_test_simulated"}
        async with self._session.get(self._url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def raw(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        async with self._session.request(method, self._url + path, headers=headers) as answer:
            return answer.status, await answer.json()

    async def configure(self, behaviour: pb.Behaviour) -> None:
        await provider_simulator.configure(self._grpc, behaviour)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    settings = Settings(listen="127.0.0.1:0", http_listen="127.0.0.1:0", database=tmp_path / "books.sqlite")
    server = Server(settings)
    address = await server.start()
    async with aiohttp.ClientSession() as session:
        yield Http(session, server.http_address, address)
    await server.stop(0)


async def test_without_an_address_no_http_is_served(tmp_path: Path) -> None:
    server = Server(Settings(listen="127.0.0.1:0", database=tmp_path / "books.sqlite"))
    await server.start()
    assert server.http_address == ""
    assert not (tmp_path / "wechat_keys").exists()
    await server.stop(0)


async def test_a_request_with_a_wrong_key_or_no_signature_is_refused(http: Http) -> None:
    status, body = await http.raw("GET", "/v1/payment_intents/pi_x", Authorization="Bearer sk_live_other")
    assert (status, body["error"]["type"]) == (401, "invalid_request_error")
    status, body = await http.raw("GET", "/v3/pay/transactions/out-trade-no/n1?mchid=1900000001")
    assert (status, body["code"]) == (401, "SIGN_ERROR")


async def test_a_key_replays_its_answer_and_rejects_another_payload(http: Http) -> None:
    first = await http.post("/v1/payment_intents", **FORM)
    assert first[:2] == (await http.post("/v1/payment_intents", **FORM))[:2]
    await http.post(f"/v1/payment_intents/{first[1]['id']}/capture", "k2", amount_to_capture="6900")
    assert first[1] == (await http.post("/v1/payment_intents", **FORM))[1], "also after later changes"
    status, body, _ = await http.post("/v1/payment_intents", **{**FORM, "amount": "9900"})
    assert (status, body["error"]["type"]) == (400, "idempotency_error")


@pytest.mark.parametrize(
    ("path", "form", "status", "code"),
    [
        ("/v1/payment_intents", {**FORM, "payment_method": "pm_declined"}, 402, "card_declined"),
        ("/v1/payment_intents", {**FORM, "amount": "0"}, 400, "parameter_invalid_integer"),
        ("/v1/payment_intents", {**FORM, "amount": "100000000"}, 400, "amount_too_large"),
        ("/v1/payment_intents/pi_unknown/capture", {"amount_to_capture": "1"}, 404, "resource_missing"),
        ("/v1/refunds", {"payment_intent": "pi_unknown", "amount": "1"}, 404, "resource_missing"),
    ],
)
async def test_errors_have_stripes_codes(http: Http, path: str, form: dict[str, str], status: int, code: str) -> None:
    got, body, _ = await http.post(path, **form)
    assert (got, body["error"]["code"]) == (status, code)


async def test_rate_limits_and_failures_have_their_status(http: Http) -> None:
    await http.configure(pb.Behaviour(limited_per_mille=1000))
    status, body, headers = await http.post("/v1/payment_intents", **FORM)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (429, "rate_limit", "1")
    await http.configure(pb.Behaviour(fail_after_per_mille=1000))
    status, body, _ = await http.post("/v1/payment_intents", **FORM)
    assert (status, body["error"]["type"]) == (500, "api_error")
    await http.configure(pb.Behaviour())
    assert (await http.post("/v1/payment_intents", **FORM))[0] == 200


async def test_a_payment_method_can_be_declined_by_name(http: Http) -> None:
    await http.configure(pb.Behaviour(decline_methods=["pm_card_ok"]))
    assert (await http.post("/v1/payment_intents", **FORM))[0] == 402


async def test_the_statement_is_exported_as_csv(http: Http) -> None:
    _, made, _ = await http.post("/v1/payment_intents", **FORM)
    await http.post(f"/v1/payment_intents/{made['id']}/capture", "k2", amount_to_capture="6900")
    status, text = await http.get("/statement.csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert status == 200
    assert (row["order"], row["captured_minor"], row["released_minor"], row["open_minor"]) == ("a", "6900", "2000", "0")
    assert await http.get("/health") == (200, '{"status": "serving"}')
