"""What the order agent makes of records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from agents.orders import OrderWork
from agents.records import Names
from contracts import push
from contracts.requeue import Origin, Requeued, to_headers
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


def back(value: bytes, seq: int, offset: int, headers: Headers = (("ce_id", b"ob-1-2"),)) -> LogRecord:
    """A letter that came back: the record that stood at orders/3/41."""
    return rec(value, offset, [*headers, *to_headers(Requeued(Origin("h.orders", "1a2b", 3, 41), 9, seq))])


def test_a_letter_that_comes_back_becomes_the_message_of_the_record_that_it_was_and_has_recovered():
    agent, payload = work(), json.dumps(GOOD).encode()
    agent.take_back(chunk([back(payload, 5, 0, headers=())], topic="h.retry.orders"), 0.0)
    effects = agent.take(0.0)
    assert push.decode(effects.push[0].value or b"").id == "kf-h.orders/3/41"
    assert effects.recovered == ((9, 5),)
    assert not effects.letters


def test_a_letter_that_was_sent_twice_is_taken_once_whatever_came_between():
    agent, payload = work(), json.dumps(GOOD).encode()
    twice = [back(payload, 5, 0), back(payload, 6, 1), back(payload, 5, 2)]
    agent.take_back(chunk(twice, topic="h.retry.orders"), 0.0)
    agent.take_back(chunk([back(payload, 6, 3)], topic="h.retry.orders"), 0.0)
    assert [told.seq for told in agent.take(0.0).recovered] == [5, 6]


def test_a_letter_that_fails_again_is_the_same_letter_with_its_own_headers():
    agent = work()
    agent.take_back(chunk([back(b"{", 5, 0)], topic="h.retry.orders"), 0.0)
    effects = agent.take(0.0)
    (letter,) = effects.letters
    assert (letter.topic, letter.incarnation, letter.partition, letter.offset) == ("h.orders", "1a2b", 3, 41)
    assert (letter.requeue_seq, letter.headers, letter.error_class) == (5, (("ce_id", b"ob-1-2"),), "BadJson")
    assert not effects.recovered


def test_what_the_mirror_refused_is_judged_anew_when_it_comes_back():
    agent, payload = work(), json.dumps(GOOD).encode()
    agent.take_back(chunk([back(payload, 5, 0, headers=REFUSED)], topic="h.retry.orders"), 0.0)
    assert len(agent.take(0.0).push) == 1


def test_what_no_letter_has_written_on_a_retry_topic_is_buried_where_it_stands():
    agent = work()
    agent.take_back(chunk([rec(json.dumps(GOOD).encode(), 4)], topic="h.retry.orders"), 0.0)
    (letter,) = agent.take(0.0).letters
    assert (letter.topic, letter.offset, letter.requeue_seq) == ("h.retry.orders", 4, None)
