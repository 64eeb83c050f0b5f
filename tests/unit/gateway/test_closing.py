from __future__ import annotations

from datetime import UTC, datetime

from gateway.closing import Code, drain, farewell, retry_ms
from runtime.clock import ManualClock
from tests.support.aio import run


class Told:
    def __init__(self) -> None:
        self.last = b""

    def close(self, last: bytes) -> None:
        self.last = last


def test_the_last_bytes_end_the_body_after_saying_when_to_come_back():
    last = farewell(Code.STOPPING, 700)
    assert b"retry: 700\n" in last
    assert b'{"code":1001,"reconnect":true,"retry_ms":700}' in last
    assert last.endswith(b"0\r\n\r\n")


def test_only_an_expired_token_is_not_asked_back():
    asked_back = {code: b'"reconnect":true' in farewell(code, 1) for code in Code}
    assert asked_back == {code: code is not Code.TOKEN_EXPIRED for code in Code}


def test_every_client_is_told_with_a_delay_of_its_own():
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clients = [Told() for _ in range(20)]
    run(drain(clients, Code.STOPPING, 0.0, clock))
    assert all(client.last for client in clients)
    assert len({client.last for client in clients}) > 10


def test_the_delay_keeps_to_its_bounds():
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert all(2000 <= retry_ms(clock) <= 5000 for _ in range(100))
