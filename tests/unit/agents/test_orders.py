"""What the order agent makes of records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from agents.orders import OrderWork
from agents.records import Names
from contracts import push
from runtime.clock import ManualClock
from streams.records import Headers
from tests.support.chunks import LogRecord, chunk

TENANT = "11111111-1111-4111-8111-111111111111"
ORDER = "22222222-2222-4222-8222-222222222222"
NAMES = Names("h.push", "h.push-latest", "h.late")
GOOD = {
    "event": "order_status",
    "version": "1.0",
    "tenant_id": TENANT,
    "order_id": ORDER,
    "status": "created",
    "ts": "2026-01-01T00:00:00Z",
}

REFUSED = (("invalid", b"MissingField: no event_id"),)


def rec(value: bytes, offset: int = 7, headers: Headers = (("ce_id", b"ob-1-2"),)) -> LogRecord:
    return LogRecord(value, offset, key=f"{TENANT}\x1f{ORDER}".encode(), headers=headers)


def work() -> OrderWork:
    return OrderWork(NAMES, "compat", ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


def test_an_order_becomes_a_message_with_its_payload_as_it_came():
    agent, payload = work(), json.dumps(GOOD, indent=1).encode()
    agent.fold(chunk([rec(payload)], topic="h.orders"), 0.0)
    (record,) = agent.take(0.0).push
    message = push.decode(record.value or b"")
    assert (message.id, message.channel, message.tenant_id) == ("ob-1-2", f"orders:{ORDER}", TENANT)
    assert json.loads(bytes(message.data)) == GOOD
    assert (record.topic, record.key) == ("h.push", TENANT.encode())
    assert not agent.take(0.0)


def test_a_record_that_comes_again_makes_the_same_message():
    agent, payload = work(), json.dumps(GOOD).encode()
    agent.fold(chunk([rec(payload), rec(payload)], topic="h.orders"), 0.0)
    first, second = agent.take(0.0).push
    assert first == second


def test_a_record_without_an_id_is_named_by_its_place_in_the_log():
    agent = work()
    agent.fold(chunk([rec(json.dumps(GOOD).encode(), headers=())], topic="h.orders"), 0.0)
    assert push.decode(agent.take(0.0).push[0].value or b"").id == "kf-h.orders/0/7"


def test_what_is_no_order_becomes_a_letter_and_its_neighbours_go_on():
    agent = work()
    call = {"event": "tool_call", "version": "1.0", "tool": "t", "args": {}, "latency_ms": 1, "ts": GOOD["ts"]}
    values = [b"{", json.dumps(call).encode(), json.dumps(GOOD).encode()]
    agent.fold(chunk([rec(value, offset=n) for n, value in enumerate(values)], topic="h.orders"), 0.0)
    effects = agent.take(0.0)
    assert [(letter.offset, letter.error_class) for letter in effects.letters] == [(0, "BadJson"), (1, "UnknownEvent")]
    assert len(effects.push) == 1


def test_an_entry_that_the_mirror_refused_becomes_a_letter_with_its_reason():
    agent = work()
    agent.fold(
        chunk([rec(json.dumps(GOOD).encode(), headers=REFUSED)], topic="h.orders"),
        0.0,
    )
    effects = agent.take(0.0)
    assert effects.push == ()
    assert "no event_id" in effects.letters[0].error_text
