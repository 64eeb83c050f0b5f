"""Dead letters as JSON, the same for the API, `--json` and exports. Pure.

Bytes stand as text where they are UTF-8 (`payload`), else in base64 under another name (`payload_base64`): whoever
reads them back gets the same bytes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

from contracts.json_types import JsonObject

if TYPE_CHECKING:
    from datetime import datetime

    from streams.letter_rows import Content, Group, Letter, Move, Requeue


def of_letter(letter: Letter) -> JsonObject:
    """A letter without its bytes, save for the key."""
    return {
        "id": letter.id,
        "state": letter.state.value,
        "source": letter.source,
        "stream": letter.stream,
        "tenant": letter.tenant_id,
        "type": letter.event_type,
        "reason": letter.error_class,
        "error": letter.error_text,
        "attempts": letter.attempts,
        "first_at": _moment(letter.first_at),
        "last_at": _moment(letter.last_at),
        "place": place_of(letter),
        "requeue": {
            "id": letter.requeue_id,
            "count": letter.requeue_count,
            "waiting": letter.waiting,
            "seq": letter.requeue_seq,
            "sent_at": _moment(letter.sent_at),
        },
        "payload_bytes": letter.payload_bytes,
        **_bytes("key", letter.key),
    }


def of_content(content: Content) -> JsonObject:
    """A letter's headers and payload."""
    return {
        "headers": [{"name": name, **_bytes("value", value)} for name, value in content.headers],
        **_bytes("payload", content.payload),
    }


def of_move(move: Move) -> JsonObject:
    """A line of the audit."""
    return {
        "at": _moment(move.at),
        "actor": move.actor,
        "why": move.why,
        "from": move.from_state,
        "to": move.to_state,
        "requeue_id": move.requeue_id,
        "seq": move.requeue_seq,
        "reason": move.error_class,
    }


def of_group(group: Group) -> JsonObject:
    """A line of the summary."""
    return {
        "state": group.state.value,
        "source": group.source,
        "stream": group.stream,
        "reason": group.error_class,
        "letters": group.letters,
        "oldest_at": _moment(group.oldest_at),
        "newest_at": _moment(group.newest_at),
    }


def of_requeue(requeue: Requeue) -> JsonObject:
    """A requeue and where its letters are."""
    asked: JsonObject = json.loads(requeue.asked)
    return {
        "id": requeue.id,
        "actor": requeue.actor,
        "why": requeue.why,
        "asked": asked,
        "automatic": requeue.automatic,
        "rate_per_s": requeue.rate_per_s,
        "asked_at": _moment(requeue.asked_at),
        "outcome": requeue.outcome,
        "ended_at": _moment(requeue.ended_at),
        "letters": requeue.letter_count,
        "waiting": requeue.waiting,
        "under_way": requeue.under_way,
        "recovered": requeue.recovered,
        "died_again": requeue.died,
    }


def place_of(letter: Letter) -> str:
    """Where it first stood, for people: outbox/17, or topic/partition/offset."""
    if letter.outbox_id is not None:
        return f"outbox/{letter.outbox_id}"
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _bytes(name: str, value: bytes) -> JsonObject:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(value).decode()}
