"""The adapter before a shop system that fails in every way: what the event becomes, and what the shop was told."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agents.adapter import DEPENDENCY, OrdersToShop
from agents.adapter_answer import classify
from agents.adapter_http import AdapterMetrics, opened, trust_of
from agents.effect import Dead, Done, Outcome, RetryLater, Try
from contracts.errors import SettingsError
from reliability.dependency import Dependency
from reliability.pools.io import IoPool
from reliability.pools.metrics import PoolMetrics
from reliability.registry import Reliability
from runtime.clock import SystemClock
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.settings_adapter import AdapterSettings
from streams.record_chunk import SourceRecord
from tests.support import failing_shop as shop_does
from tests.support.aio import run
from tests.support.certificates import needs_openssl, self_signed
from tests.support.failing_shop import Deed, FailingShop, failing_shop

TENANT = "11111111-1111-4111-8111-111111111111"
QUICK = {"base_s": 0.001, "throttled_base_s": 0.001, "cap_s": 0.01, "try_timeout_s": 0.25, "deadline_s": 5}
BREAKER = {"slow_s": 0.2}


def order(number: int = 1, status: str = "created") -> SourceRecord:
    order_id = f"33333333-3333-4333-8333-{number:012d}"
    event = {
        "event": "order_status",
        "version": "1.0",
        "tenant_id": TENANT,
        "order_id": order_id,
        "status": status,
        "ts": "2026-01-01T00:00:00Z",
    }
    headers = [("ce_id", b"ob-%d-1" % number), ("ce_type", b"order_status"), ("ce_source", "Läden".encode())]
    key = f"{TENANT}\x1f{order_id}".encode()
    return SourceRecord("p.orders", 0, number, 1, key, json.dumps(event).encode(), headers)


class Bench:
    def __init__(self, shop: FailingShop, effect: OrdersToShop, policies: Dependency) -> None:
        self.shop, self.effect, self.policies = shop, effect, policies

    async def tell(self, *deeds: Deed, record: SourceRecord | None = None) -> Outcome:
        """What becomes of an order when the shop does this, in this order, and then always 200."""
        self.shop.deeds.extend(deeds)
        return await self.effect.run(record or order(), Try(1, 0))


def told(
    body: Callable[[Bench], Awaitable[None]],
    calls: dict[str, Any] | None = None,
    breaker: dict[str, Any] | None = None,
    certificate: ssl.SSLContext | None = None,
    **adapter: object,
) -> None:
    """Run the body before a shop; the adapter and its policies have these settings."""

    async def main() -> None:
        async with failing_shop(certificate) as shop:
            dependency = {"calls": {**QUICK, **(calls or {})}, "breaker": {**BREAKER, **(breaker or {})}}
            settings = Settings.model_validate({"dependencies": {DEPENDENCY: dependency}})
            metrics, clock = Metrics(), SystemClock()
            policies = Reliability(settings, "test", clock, metrics).dependency(DEPENDENCY, classify)
            chosen = AdapterSettings.model_validate({"url": shop.url, **adapter})
            pool = IoPool(DEPENDENCY, chosen.pool, PoolMetrics(metrics), clock)
            client = partial(opened, chosen, trust_of(chosen), AdapterMetrics(metrics), clock)
            effect = OrdersToShop(chosen, "strict", policies.stack, pool, client)
            try:
                await body(Bench(shop, effect, policies))
            finally:
                await effect.close()
            for _ in range(100):
                if not shop.open:
                    break
                await asyncio.sleep(0.01)
            assert not shop.open, "a connection outlives the adapter"

    run(main())


def test_an_order_is_told_byte_for_byte_with_its_key_and_the_token():
    async def body(bench: Bench) -> None:
        assert await bench.tell() == Done()
        (request,) = bench.shop.told
        assert request.body == order().value
        assert request.target == "/orders?secret=1"
        said = {
            "idempotency-key": "ob-1-1",
            "ce-id": "ob-1-1",
            "ce-type": "order_status",
            "ce-source": "L%C3%A4den",
            "ce-subject": "order/33333333-3333-4333-8333-000000000001",
            "ce-specversion": "1.0",
            "content-type": "application/json",
            "authorization": "Bearer not-a-real-one",
        }
        assert {name: request.headers[name] for name in said} == said

    told(body, token="not-a-real-one")


@pytest.mark.parametrize(
    "deed",
    [
        shop_does.close,
        shop_does.reset,
        shop_does.half_head,
        shop_does.half_body,
        shop_does.garbage,
        shop_does.hang,
        shop_does.drip,
        shop_does.drip_head,
        shop_does.status(500),
        shop_does.status(503, Retry_After="0"),
        shop_does.status(429, Retry_After="0"),
        shop_does.status(408),
    ],
    ids=lambda deed: deed.__qualname__.split(".")[0],
)
def test_what_may_pass_is_tried_again_with_the_same_key_and_the_same_bytes(deed: Deed):
    async def body(bench: Bench) -> None:
        assert await bench.tell(deed) == Done()
        first, second = bench.shop.told
        assert first.body == second.body
        assert bench.shop.effects == ["ob-1-1"]
        assert [request.headers["headrace-try"] for request in bench.shop.told] == ["1", "2"]

    told(body)


@pytest.mark.parametrize(
    ("deed", "error_class"),
    [
        (shop_does.reset, "AnswerBroken"),
        (shop_does.half_body, "AnswerBroken"),
        (shop_does.garbage, "AnswerBroken"),
        (shop_does.hang, "CallTimeout"),
        (shop_does.drip, "CallTimeout"),
        (shop_does.status(500, b"a stack trace"), "EndpointBusy"),
    ],
    ids=["reset", "half_body", "garbage", "hang", "drip", "500"],
)
def test_what_does_not_pass_within_seconds_is_tried_later_and_the_try_counts(deed: Deed, error_class: str):
    async def body(bench: Bench) -> None:
        bench.shop.always = deed
        outcome = await bench.tell()
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == (error_class, True)
        assert "secret" not in outcome.reason.text
        assert len(bench.shop.told) == 3

    told(body)


def test_a_shop_that_refuses_connections_costs_no_try():
    async def body(bench: Bench) -> None:
        await bench.shop.stop()
        outcome = await bench.tell()
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == ("EndpointUnreachable", False)
        await bench.shop.start()
        assert await bench.tell() == Done()

    told(body)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_try_that_ends_before_there_is_a_connection_has_told_nobody(scheme: str, monkeypatch: pytest.MonkeyPatch):
    """A name server that does not answer; a server that takes connections and says nothing of TLS."""
    names, found = threading.Event(), socket.getaddrinfo

    def slow(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        if args[0] == "shop.example":
            names.wait(30)
        return found(*args, **options)

    async def body(bench: Bench) -> None:
        outcome = await bench.tell()
        names.set()
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == ("EndpointUnreachable", False)
        assert "word" not in outcome.reason.text

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = "shop.example" if scheme == "http" else f"127.0.0.1:{silent.getsockname()[1]}"
        # A tenth of it lies between the connection's limit and the try's: a busy machine must not take that long.
        calls = {"try_timeout_s": 2.0, "deadline_s": 30, "tries": 1}
        told(body, calls, idempotent=False, url=f"{scheme}://{host}/orders?key=word")


@pytest.mark.parametrize("code", [301, 307, 401, 403, 404, 405])
def test_what_no_try_mends_within_seconds_is_left_for_later_with_the_remedy(code: int):
    async def body(bench: Bench) -> None:
        outcome = await bench.tell(shop_does.status(code, Location="http://elsewhere.example/"))
        assert isinstance(outcome, RetryLater)
        assert outcome.reason.error_class == "EndpointMisconfigured"
        assert "adapter." in outcome.reason.text
        assert len(bench.shop.told) == 1

    told(body)


@pytest.mark.parametrize("code", [400, 410, 413, 415, 422])
def test_an_event_that_the_shop_refuses_for_good_is_dead_at_once(code: int):
    async def body(bench: Bench) -> None:
        outcome = await bench.tell(shop_does.status(code, b'{"error": "no such article"}'))
        assert isinstance(outcome, Dead)
        assert outcome.reason.error_class == "EventRefused"
        assert "no such article" in outcome.reason.text
        assert len(bench.shop.told) == 1

    told(body)


def test_a_shop_that_asks_for_patience_gets_it():
    async def body(bench: Bench) -> None:
        outcome = await bench.tell(shop_does.status(429, Retry_After="120"))
        assert isinstance(outcome, RetryLater)
        assert (outcome.delay_s, outcome.spends) == (120, True)
        assert len(bench.shop.told) == 1

    told(body)


@pytest.mark.parametrize("deed", [shop_does.reset, shop_does.hang, shop_does.half_body])
def test_an_unknown_outcome_is_for_people_where_the_shop_cannot_tell_repeats(deed: Deed):
    async def body(bench: Bench) -> None:
        outcome = await bench.tell(deed)
        assert isinstance(outcome, Dead)
        assert outcome.reason.error_class == "OutcomeUnknown"
        assert bench.shop.repeats == {"ob-1-1": 1}
        await bench.shop.stop()
        unsent = await bench.tell()
        assert isinstance(unsent, RetryLater)

    told(body, idempotent=False)


def test_an_answer_without_end_is_cut_and_counts_as_given():
    async def body(bench: Bench) -> None:
        assert await bench.tell(shop_does.flood) == Done()
        assert await bench.tell(record=order(2)) == Done()
        assert [request.connection for request in bench.shop.told] == [1, 2]

    told(body)


@pytest.mark.parametrize(
    ("adapter", "connections"),
    [({"dns_cache_s": 0}, [1, 1]), ({"keepalive_s": 0}, [1, 2]), ({"idempotent": False}, [1, 2])],
)
def test_connections_are_kept_unless_switched_off_or_the_shop_cannot_tell_repeats(
    adapter: dict[str, object], connections: list[int]
):
    async def body(bench: Bench) -> None:
        assert [await bench.tell(record=order(number)) for number in (1, 2)] == [Done(), Done()]
        assert [request.connection for request in bench.shop.told] == connections

    told(body, None, None, None, **adapter)


def test_a_failing_shop_is_soon_left_alone_and_that_costs_no_tries():
    async def body(bench: Bench) -> None:
        bench.shop.always = shop_does.status(500)
        outcomes = [await bench.tell(record=order(number)) for number in range(40)]
        asked = len(bench.shop.told)
        late = outcomes[-1]
        assert isinstance(late, RetryLater)
        assert (late.reason.error_class, late.spends) == ("BreakerOpen", False)
        assert late.delay_s is not None
        assert asked <= 20, "the breaker opens once it has seen enough"

    told(body)


def test_no_more_calls_than_slots_are_under_way():
    async def body(bench: Bench) -> None:
        bench.shop.always = shop_does.status(200, after_s=0.02)
        outcomes = await asyncio.gather(*(bench.tell(record=order(number)) for number in range(20)))
        assert outcomes == [Done()] * 20
        assert bench.shop.most_under_way == 4
        assert len({request.connection for request in bench.shop.told}) <= 4

    told(body, pool={"slots": 4})


def test_only_the_statuses_that_were_asked_for_are_told():
    async def body(bench: Bench) -> None:
        assert await bench.tell(record=order(1, "created")) == Done()
        assert await bench.tell(record=order(2, "confirmed")) == Done()
        assert bench.shop.effects == ["ob-2-1"]

    told(body, statuses=["confirmed"])


def test_what_is_no_order_is_dead_and_nobody_is_told():
    async def body(bench: Bench) -> None:
        outcome = await bench.tell(record=order()._replace(value=b"{broken"))
        assert isinstance(outcome, Dead)
        assert outcome.reason.error_class == "BadJson"
        assert not bench.shop.told

    told(body)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_stop_ends_calls_that_hang_and_the_event_is_kept_for_the_next_worker_or_for_people(*, idempotent: bool):
    async def body(bench: Bench) -> None:
        bench.shop.always = shop_does.hang
        hanging = asyncio.create_task(bench.tell())
        while not bench.shop.told:  # noqa: ASYNC110  a server is waited for
            await asyncio.sleep(0.01)
        await bench.effect.close()
        outcome = await hanging
        if idempotent:
            assert isinstance(outcome, RetryLater)
            assert (outcome.reason.error_class, outcome.spends) == ("PoolClosed", False)
        else:
            assert isinstance(outcome, Dead)
            assert outcome.reason.error_class == "OutcomeUnknown"

    told(body, pool={"stop_grace_s": 0}, calls={"try_timeout_s": 5, "deadline_s": 20}, idempotent=idempotent)


@needs_openssl
def test_only_a_shop_with_a_trusted_certificate_is_told(tmp_path: Path):
    context, certificate = self_signed(tmp_path)

    async def refused(bench: Bench) -> None:
        outcome = await bench.tell()
        assert isinstance(outcome, RetryLater)
        assert (outcome.reason.error_class, outcome.spends) == ("EndpointUnreachable", False)
        assert "certificate verify failed" in outcome.reason.text
        assert not bench.shop.told

    async def trusted(bench: Bench) -> None:
        assert await bench.tell() == Done()

    told(refused, certificate=context)
    told(trusted, certificate=context, ca_file=str(certificate))


def test_certificates_that_cannot_be_read_are_told_of_at_start(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"adapter\.ca_file"):
        trust_of(AdapterSettings(url="https://shop.example", ca_file=str(tmp_path / "none.pem")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "shop.example/orders"},
        {"url": "ftp://shop.example/"},
        {"url": "https://user:word@shop.example/"},
        {"url": "https://shop.example:99999/"},
        {"url": "https://shop example/orders"},
        {"url": "https://shop.example/", "token": "two words"},
        {"url": "https://shop.example/", "token": "a\r\nHost: elsewhere"},
    ],
)
def test_addresses_and_tokens_that_cannot_be_right_are_refused_at_start(wrong: dict[str, str]):
    with pytest.raises(ValidationError):
        AdapterSettings.model_validate(wrong)


def test_the_last_resort_is_behind_the_limits_that_know_more():
    with pytest.raises(ValidationError, match=r"adapter\.retries\.call_timeout_s"):
        Settings.model_validate({"adapter": {"url": "https://shop.example/", "retries": {"call_timeout_s": 15}}})
