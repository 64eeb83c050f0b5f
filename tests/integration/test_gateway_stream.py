"""Streams over real sockets and a real broker: order, resume, repeats, slow clients, many tenants."""

from __future__ import annotations

import asyncio

import pytest

from runtime.settings import Settings
from tests.support.aio import run
from tests.support.gateway import connect, free_port, gateway, order, producer, record, request, send


@pytest.fixture
def at(kafka_url: str, prefix: str, clean_environment: None) -> Settings:
    """A gateway's settings on a corner of the broker of its own."""
    del clean_environment
    return settings_at(kafka_url, prefix)


def settings_at(kafka_url: str, prefix: str, **gateway_fields: object) -> Settings:
    return Settings.model_validate(
        {
            "prefix": prefix,
            "kafka": {"bootstrap": kafka_url, "idempotence": False},
            "auth": {"secret": "only-for-tests-" + "0" * 32},
            "gateway": {"port": free_port(), "drain_s": 0.2, "worker_urls": (), **gateway_fields},
        }
    )


def test_a_message_reaches_the_streams_of_its_tenant_only(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            mine = await connect(at, tenant="acme")
            other = await connect(at, tenant="globex")
            ready = await mine.next()
            assert ready.name == "ready"
            assert ready.data["resumed"] is False
            assert ready.data["heartbeat_s"] == at.gateway.heartbeat_s
            assert 2000 <= mine.retry_ms <= 5000
            await other.next()
            await send(at, order("acme", 1), order("globex", 2))
            assert await mine.orders(1) == [1]
            assert await other.orders(1) == [2]
            with pytest.raises(TimeoutError):
                await mine.next(timeout_s=0.2)
            await mine.close()
            await other.close()

    run(scenario())


def test_resuming_across_a_restart_of_the_gateway_loses_and_repeats_nothing(at: Settings):
    async def scenario() -> None:
        got: list[int] = []
        async with gateway(at):
            client = await connect(at)
            await client.next()
            await send(at, *(order("acme", n) for n in range(10)))
            got += await client.orders(6)
            last_id = client.last_id
            await client.close()
        # Written while no gateway is there: new messages, and repeats of old ones as a restarted worker sends them.
        await send(at, *(order("acme", n) for n in (3, 10, 11, 9, 11)))
        async with gateway(at):
            client = await connect(at, last_id=last_id)
            ready = await client.next()
            assert (ready.data["resumed"], ready.data["recovered"]) == (True, True)
            await send(at, *(order("acme", n) for n in (2, 12, 5, 13)))
            got += await client.orders(8)
            with pytest.raises(TimeoutError):
                await client.next(timeout_s=0.2)
            await client.close()
        assert got == list(range(14))

    run(scenario())


def test_a_client_that_heard_nothing_resumes_from_where_it_connected(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            client = await connect(at)
            await client.next()
            await client.close()
            await send(at, order("acme", 1), order("acme", 2))
            again = await connect(at, last_id=client.last_id)
            assert (await again.next()).data["recovered"] is True
            assert await again.orders(2) == [1, 2]
            await again.close()

    run(scenario())


def test_what_the_ring_has_dropped_is_read_back_from_kafka(kafka_url: str, prefix: str, clean_environment: None):
    del clean_environment
    at = settings_at(kafka_url, prefix, ring_bytes=65_536)

    async def scenario() -> None:
        async with gateway(at):
            client = await connect(at)
            await client.next()
            last_id = client.last_id
            messages = [order("acme", n) for n in range(600)]
            async with producer(at) as sender:
                await sender.send_all([record(prefix, m) for m in [*messages, *messages[100:300]]])
            assert await client.orders(600) == list(range(600))
            again = await connect(at, last_id=last_id)
            assert (await again.next()).data["recovered"] is True
            assert await again.orders(600) == list(range(600))
            with pytest.raises(TimeoutError):
                await again.next(timeout_s=0.2)
            await client.close()
            await again.close()

    run(scenario())


@pytest.mark.parametrize("last_id", ["00000000.0-5", "nonsense"])
def test_an_id_of_another_log_is_answered_with_a_gap_and_the_live_end(at: Settings, last_id: str):
    async def scenario() -> None:
        async with gateway(at):
            watcher = await connect(at)
            await watcher.next()
            await send(at, order("acme", 1))
            await watcher.orders(1)
            client = await connect(at, last_id=last_id)
            ready, gap = await client.next(), await client.next()
            assert (ready.data["resumed"], ready.data["recovered"]) == (True, False)
            assert gap.name == "gap"
            await send(at, order("acme", 2))
            assert await client.orders(1) == [2]
            await client.close()
            await watcher.close()

    run(scenario())


def test_replay_shows_the_newest_messages_of_each_family_first(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            first = await connect(at)
            await first.next()
            await send(at, *(order("acme", n) for n in range(5)), order("globex", 9))
            await first.orders(5)
            client = await connect(at, query="&replay=3")
            assert await client.orders(3) == [2, 3, 4]
            await send(at, order("acme", 5))
            assert await client.orders(1) == [5]
            await client.close()
            await first.close()

    run(scenario())


def test_current_values_come_at_once_and_carry_no_id(at: Settings):
    async def scenario() -> None:
        async with gateway(at), producer(at) as sender:
            await sender.send_all([record(at.prefix, order("acme", n), latest="running") for n in range(4)])
            watcher = await connect(at)
            await watcher.next()
            numbers = [0]
            while numbers[-1] != 3:
                event = await watcher.next()
                assert event.id == ""
                numbers.append(event.number)
            late = await connect(at)
            await late.next()
            assert await late.orders(1) == [3]
            await watcher.close()
            await late.close()

    run(scenario())


def test_a_client_that_reads_nothing_is_cut_off_and_stops_nobody(kafka_url: str, prefix: str, clean_environment: None):
    del clean_environment
    at = settings_at(kafka_url, prefix, slow_client_s=1)

    async def scenario() -> None:
        async with gateway(at) as metrics, producer(at) as sender:
            stalled = await connect(at)
            healthy = await connect(at)
            await healthy.next()
            filler = "x" * 20_000
            for start in range(0, 200, 20):
                batch = [order("acme", n, data={"number": n, "filler": filler}) for n in range(start, start + 20)]
                await sender.send_all([record(prefix, message) for message in batch])
                assert await healthy.orders(20) == list(range(start, start + 20))
            async with asyncio.timeout(10):
                while b'result="slow_closed",transport="sse"} 1.0' not in await metrics.render():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await stalled.close()
            await healthy.close()

    run(scenario(), timeout_s=60)


def test_a_client_that_was_slow_for_a_while_gets_everything_in_order(at: Settings):
    async def scenario() -> None:
        async with gateway(at), producer(at) as sender:
            slow = await connect(at)
            filler = "x" * 10_000
            messages = [order("acme", n, data={"number": n, "filler": filler}) for n in range(300)]
            for start in range(0, 300, 50):
                await sender.send_all([record(at.prefix, message) for message in messages[start : start + 50]])
            await asyncio.sleep(0.3)
            assert await slow.orders(300) == list(range(300))
            await slow.close()

    run(scenario())


def test_a_stop_says_bye_and_asks_to_come_back(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            client = await connect(at)
            await client.next()
        bye = await client.next()
        assert (bye.name, bye.data["code"], bye.data["reconnect"]) == ("bye", 1001, True)
        with pytest.raises(EOFError):
            await client.next()
        await client.close()

    run(scenario())


def test_more_streams_than_allowed_are_told_to_come_back_later(kafka_url: str, prefix: str, clean_environment: None):
    del clean_environment
    at = settings_at(kafka_url, prefix, connections=1)

    async def scenario() -> None:
        async with gateway(at):
            first = await connect(at)
            await first.next()
            second = await connect(at)
            assert second.status == 200
            bye = await second.next()
            assert (bye.name, bye.data["code"]) == ("bye", 4013)
            assert second.retry_ms >= 5000
            await first.close()
            await second.close()

    run(scenario())


def test_a_record_that_is_not_a_message_is_passed_over(at: Settings):
    async def scenario() -> None:
        async with gateway(at) as metrics, producer(at) as sender:
            client = await connect(at)
            await client.next()
            good = record(at.prefix, order("acme", 1))
            forged = record(at.prefix, order("globex", 2))._replace(key=b"acme")
            await sender.send_all([good._replace(value=b"{"), good._replace(value=None), forged, good])
            assert await client.orders(1) == [1]
            assert b"headrace_gateway_invalid_records_total 3.0" in await metrics.render()
            await client.close()

    run(scenario())


def test_http_1_0_is_told_that_a_stream_needs_more(at: Settings):
    async def scenario() -> None:
        async with gateway(at):
            client = await request(at, "GET /v1/stream?channels=orders:* HTTP/1.0\r\n\r\n")
            assert client.status == 426
            await client.close()

    run(scenario())
